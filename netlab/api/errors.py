"""An API server's refusal, as an exception."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Self, TypeVar

import msgspec

from netlab.api.meta_types import Status, StatusDetails
from netlab.errors import NetlabError, UnavailableError

T = TypeVar("T")


class ApiError(NetlabError):
    """The API server refused a request; `status` is its metav1.Status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or f"the API server answered {status.code}")
        self.status = status

    @classmethod
    def from_response(cls, code: int, body: bytes, retry_after: str = "") -> Self:
        """The error in an HTTP answer; a body that is not a Status (say, a proxy's page) becomes its message.

        `retry_after` is the header of that name (RFC 9110 section 10.2.3); only seconds are understood.
        """
        try:
            status = msgspec.json.decode(body, type=Status)
        except msgspec.MsgspecError:
            # Only one line: it may be a page.
            text = " ".join(body[:200].decode(errors="replace").split())
            status = Status(code=code, message=f"the API server answered {code}: {text}" if text else "")
        status.code = status.code or code
        if retry_after.isascii() and retry_after.isdigit():
            status.details = status.details or StatusDetails()
            status.details.retryAfterSeconds = status.details.retryAfterSeconds or int(retry_after)
        return cls(status)

    @classmethod
    def unreadable(cls, message: str) -> Self:
        """The server's answer cannot be read."""
        return cls(Status(reason="Unreadable", message=message))

    @property
    def reason(self) -> str:
        """Kubernetes' reason: NotFound, AlreadyExists, Conflict, Invalid, BadRequest, Expired, ..."""
        return self.status.reason

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return self.status.code

    @property
    def retry_after(self) -> int:
        """How many seconds the server asks to wait before retrying."""
        return self.status.details.retryAfterSeconds if self.status.details else 0

    @property
    def exit_status(self) -> int:  # type: ignore[override]
        """The exit status of a command that ends with this error (see netlab.errors)."""
        return {400: 2, 404: 3, 405: 2, 409: 4, 415: 2, 422: 2, 503: 6, 504: 8, 507: 7}.get(self.code, 1)


class ApiUnavailableError(UnavailableError):
    """The API server does not answer, or broke off its answer."""


async def unless_gone(request: Awaitable[T]) -> T | None:
    """The answer to a request; None if its object is gone. Raises what the request raises otherwise."""
    try:
        return await request
    except ApiError as error:
        if error.reason != "NotFound":
            raise
        return None
