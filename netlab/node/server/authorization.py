"""Who may ask a kubelet for what: the API server decides (SubjectAccessReview), as with upstream's webhook mode."""

from __future__ import annotations

import time

from starlette.types import Scope

from netlab.api.client import Client
from netlab.api.resources import SUBJECTACCESSREVIEWS, VERB_OF_METHOD
from netlab.api.review_types import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from netlab.api.server.access.authentication import caller

ALLOWED_SECONDS, REFUSED_SECONDS = 300.0, 30.0
"""How long a decision is kept (authorization.webhook.cacheAuthorizedTTL and its counterpart)."""

_PARTS = {"stats": "stats", "metrics": "metrics", "logs": "log", "healthz": "healthz", "pods": "pods"}
"""The subresources of nodes by the beginning of the path; anything else is `proxy` (pkg/kubelet/server/auth.go)."""


class Authorizer:
    """Asks the API server, and remembers what it said."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._decided: dict[tuple[str, tuple[str, ...], str, str], tuple[float, str]] = {}

    async def why_not(self, scope: Scope) -> str:
        """Why the caller of a request is refused; empty if it is not. Raises `NetlabError` when nobody can say."""
        user = caller(scope)
        verb = VERB_OF_METHOD.get(scope["method"], "")
        part = _PARTS.get(scope["path"].split("/")[1], "proxy")
        key = (user.name, user.groups, verb, part)
        until, refusal = self._decided.get(key, (0.0, ""))
        if time.monotonic() < until:
            return refusal
        asked = SubjectAccessReview(
            spec=SubjectAccessReviewSpec(
                user=user.name,
                groups=list(user.groups),
                resourceAttributes=ResourceAttributes(
                    verb=verb, version="v1", resource="nodes", subresource=part, name=self._node
                ),
            )
        )
        answer = await self._client.create(SUBJECTACCESSREVIEWS, asked)
        refusal = (
            ""
            if answer.status.allowed
            else f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource={part})"
        )
        kept = REFUSED_SECONDS if refusal else ALLOWED_SECONDS
        self._decided = {each: known for each, known in self._decided.items() if known[0] > time.monotonic()}
        self._decided[key] = time.monotonic() + kept, refusal
        return refusal
