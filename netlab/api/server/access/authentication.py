"""Finds out who makes a request, before anything is done: by its connection, or by a bearer token.

Without credentials only what tells the server's health and version is answered, as with upstream's
AuthenticationConfiguration that limits anonymous requests to these paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from netlab.api.server import refusals
from netlab.api.server.identity import ANONYMOUS, User
from netlab.api.server.rest import responses

OPEN = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
"""What needs no credentials."""

CALLER = "caller"
"""The key of the scope's state under which the user is."""

Verifier = Callable[[str], User | None]
"""Says whose a bearer token is; None if it is nobody's."""


def set_caller(scope: Mapping[str, Any], user: User) -> None:
    """Note who makes a request."""
    scope["state"][CALLER] = user


def caller(scope: Scope) -> User:
    """Who makes a request."""
    user: User = scope["state"].get(CALLER, ANONYMOUS)
    return user


class Components:
    """The tokens of the cluster's own components (--token-auth-file of upstream, of which only digests are known)."""

    def __init__(self, users: Mapping[str, User]) -> None:
        """`users` by the SHA-256 digests of their tokens, in hexadecimal digits."""
        self._users = {bytes.fromhex(digest): user for digest, user in users.items()}

    def user(self, token: str) -> User | None:
        """Whose token it is; None if it is none of theirs."""
        return self._users.get(hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest())


class Authentication:
    """An application, and before it the question who asks."""

    def __init__(self, app: ASGIApp, verifiers: Sequence[Verifier]) -> None:
        """A token is the first's of the `verifiers` that knows it."""
        self._app = app
        self._verifiers = verifiers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it (401)."""
        token = _bearer_token(scope)
        if token is not None:
            user = next((found for verify in self._verifiers if (found := verify(token)) is not None), None)
            if user is None:
                await responses.refusal(refusals.unauthorized())(scope, receive, send)
                return
            set_caller(scope, user)
        elif caller(scope) is ANONYMOUS and scope["path"] not in OPEN:
            await responses.refusal(refusals.unauthorized())(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _bearer_token(scope: Scope) -> str | None:
    """The token of the Authorization header (RFC 6750 section 2.1); None without one."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").strip().partition(" ")
            # Another scheme than Bearer is as good as a wrong token: a client that shows who it is means to be known.
            return token.strip() if kind.lower() == "bearer" else ""
    return None
