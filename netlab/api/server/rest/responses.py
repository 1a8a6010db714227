"""Answers: documents, Status objects, and what warnings accompany them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from starlette.responses import Response

from netlab.api.errors import ApiError
from netlab.api.media_types import JSON
from netlab.api.meta_types import Status
from netlab.api.server import refusals
from netlab.api.server.rest.negotiation import FORMATS, Format
from netlab.visible import visible

PLAIN = FORMATS[JSON]

MOST_WARNED = 4096
"""Characters of all warnings of an answer."""

LONGEST_WARNING = 256
"""Characters of one, where all of them are too many."""


def document(raw: bytes, code: int = 200, warnings: Sequence[str] = (), format: Format = PLAIN) -> Response:
    """An answer from its JSON."""
    response = Response(format.encode(raw), code, media_type=format.media_type)
    warn(response, warnings)
    return response


def warn(response: Response, warnings: Sequence[str]) -> None:
    """Tell who asked something besides the answer."""
    for warning in _cut(warnings):
        # RFC 7234 5.5: code 299, an agent (none), a quoted text.
        text = visible(warning).encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("Warning", f'299 - "{text}"')


def _cut(warnings: Sequence[str]) -> Iterator[str]:
    """As many as headers hold, and if those are too many, each short (apiserver's pkg/endpoints/filters/warning.go)."""
    are_long = sum(map(len, warnings)) > MOST_WARNED
    left = MOST_WARNED
    for warning in warnings:
        text = warning[:LONGEST_WARNING] if are_long else warning
        left -= len(text)
        if left < 0:
            return
        yield text


def status(value: Status, format: Format = PLAIN) -> Response:
    """A Status as an answer."""
    response = document(refusals.encoded(value), value.code, format=format)
    if value.details is not None and value.details.retryAfterSeconds:
        response.headers["Retry-After"] = str(value.details.retryAfterSeconds)
    return response


def refusal(error: ApiError, format: Format = PLAIN) -> Response:
    """A refusal as an answer."""
    return status(error.status, format)
