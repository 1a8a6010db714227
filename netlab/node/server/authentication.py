"""Who asks a kubelet: by a client's certificate, or a bearer token, of which the API server says whose it is.

The latter is upstream's authentication.webhook; without either a request is refused (authentication.anonymous is off,
as kubeadm sets it up).
"""

from __future__ import annotations

import hashlib
import time

from starlette.types import Scope

from netlab.api.client import Client
from netlab.api.resources import TOKENREVIEWS
from netlab.api.review_types import TokenReview, TokenReviewSpec
from netlab.api.server.access.authentication import caller
from netlab.api.server.identity import ANONYMOUS, User

KNOWN_SECONDS = 120.0
"""How long a token's user is kept (authentication.webhook.cacheTTL)."""

_SCHEME = "bearer"


class Authenticator:
    """Asks the API server about tokens, and remembers whose they are."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[bytes, tuple[float, User]] = {}

    async def user(self, scope: Scope) -> User | None:
        """Who makes a request; None if that is not known. Raises `NetlabError` when nobody can say."""
        user = caller(scope)
        if user is not ANONYMOUS:
            return user
        token = _token(scope)
        return await self._of(token) if token else None

    async def _of(self, token: str) -> User | None:
        # The token itself is kept nowhere.
        digest = hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest()
        now = time.monotonic()
        self._known = {each: known for each, known in self._known.items() if known[0] > now}
        if digest in self._known:
            return self._known[digest][1]
        status = (await self._client.create(TOKENREVIEWS, TokenReview(spec=TokenReviewSpec(token=token)))).status
        if not status.authenticated:
            return None
        extra = {name: tuple(values) for name, values in status.user.extra.items()}
        user = User(status.user.username, tuple(status.user.groups), status.user.uid, extra)
        self._known[digest] = now + KNOWN_SECONDS, user
        return user


def _token(scope: Scope) -> str:
    """The bearer token of a request (RFC 6750, section 2.1); empty without one."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = found[0].decode("latin-1").partition(" ") if len(found) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == _SCHEME else ""
