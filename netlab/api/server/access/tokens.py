"""Service accounts' tokens: JSON Web Tokens (RFC 7519) that the cluster signs (pkg/serviceaccount).

A token ends before its time when its account goes, or the pod that it is bound to.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import NODES, PODS, SERVICEACCOUNTS, Resource
from netlab.api.server.access.authority import Authority
from netlab.api.server.identity import AUTHENTICATED, User
from netlab.api.server.storage.store import Store
from netlab.api.server.storage.watch import Stored

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""Who signs, and the audience that the API server itself is."""

ALGORITHM = "ES256"
"""How tokens are signed (RFC 7518 section 3.4)."""

LEEWAY = 60
"""Seconds that the token of a pod is good for after the pod's end was due (pkg/serviceaccount/claims.go)."""

_PREFIX = "system:serviceaccount:"
_GROUPS = "system:serviceaccounts"
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
_NODE_NAME, _NODE_UID = "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"

_SERVICEACCOUNTS: Resource[Any] = SERVICEACCOUNTS
_PODS: Resource[Any] = PODS
_NODES: Resource[Any] = NODES


class _Reference(msgspec.Struct):
    name: str
    uid: str


class _Bound(msgspec.Struct, omit_defaults=True):
    namespace: str
    serviceaccount: _Reference
    pod: _Reference | None = None
    node: _Reference | None = None


class _Claims(msgspec.Struct):
    aud: list[str]
    exp: int
    iat: int
    iss: str
    jti: str
    nbf: int
    sub: str
    bound: _Bound = msgspec.field(name="kubernetes.io")


class _Header(msgspec.Struct):
    alg: str
    kid: str


class TokenError(Exception):
    """Why a token is not accepted, for the server's log and TokenReview."""


@dataclasses.dataclass(frozen=True)
class Verified:
    """A token that is good: whose it is, and for which of the audiences that were asked about."""

    user: User
    audiences: tuple[str, ...]


def user_name(namespace: str, name: str) -> str:
    """The user that a service account is."""
    return f"{_PREFIX}{namespace}:{name}"


def groups(namespace: str) -> tuple[str, ...]:
    """The groups of the service accounts of a namespace."""
    return _GROUPS, f"{_GROUPS}:{namespace}", AUTHENTICATED


class Tokens:
    """Signs and verifies the tokens of a cluster's service accounts."""

    def __init__(self, authority: Authority, store: Store) -> None:
        self._authority = authority
        self._store = store

    def sign(
        self, account: Stored, audiences: Sequence[str], seconds: int, bound: tuple[Resource[Object], Stored] | None
    ) -> tuple[str, datetime.datetime]:
        """A token of an account, and when it expires. With `bound` it is good while that object is there."""
        now = int(time.time())
        references: dict[str, _Reference] = {}
        if bound is not None:
            resource, stored = bound
            references[resource.singular] = _reference(stored)
            node = stored.fields.get("spec.nodeName", "") if resource is PODS else ""
            if node and (found := self._store.get(_NODES, "", node)) is not None:
                references["node"] = _reference(found)
        claims = _Claims(
            aud=list(audiences) or [ISSUER],
            exp=now + seconds,
            iat=now,
            iss=ISSUER,
            jti=str(uuid.uuid4()),
            nbf=now,
            sub=user_name(account.namespace, account.name),
            bound=_Bound(account.namespace, _reference(account), references.get("pod"), references.get("node")),
        )
        header = _Header(ALGORITHM, self._authority.key_id)
        signed = b".".join(_encode(msgspec.json.encode(part)) for part in (header, claims))
        token = b".".join((signed, _encode(self._authority.sign(signed)))).decode("ascii")
        return token, datetime.datetime.fromtimestamp(claims.exp, datetime.UTC)

    def user(self, token: str) -> User | None:
        """Whose token it is, for the API itself; None if it is nobody's."""
        try:
            return self.verify(token, ()).user
        except TokenError:
            return None

    def verify(self, token: str, audiences: Sequence[str]) -> Verified:
        """Whose token it is; `audiences` are those asked about, without any the API's own. Raises `TokenError`."""
        claims = self._claims(token)
        now = time.time()
        if claims.exp <= now:
            raise TokenError("service account token has expired")
        if claims.nbf > now:
            raise TokenError("service account token is not valid yet")
        asked = tuple(audiences) or (ISSUER,)
        common = tuple(each for each in asked if each in claims.aud)
        if not common:
            raise TokenError(f"token audiences {claims.aud} is invalid for the target audiences {list(asked)}")
        return Verified(self._owner(claims, now), common)

    def _claims(self, token: str) -> _Claims:
        head, _, rest = token.partition(".")
        payload, _, signature = rest.partition(".")
        try:
            header = msgspec.json.decode(_decode(head), type=_Header)
            claims = msgspec.json.decode(_decode(payload), type=_Claims)
            sealed = _decode(signature)
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            raise TokenError("it is no token of a service account") from None
        # The algorithm is this cluster's own, whatever a header says (RFC 8725 section 3.1).
        if header.alg != ALGORITHM or not self._authority.has_signed(f"{head}.{payload}".encode(), sealed):
            raise TokenError("it is not signed by this cluster")
        if claims.iss != ISSUER:
            raise TokenError(f"it is from another issuer: {claims.iss}")
        return claims

    def _owner(self, claims: _Claims, now: float) -> User:
        bound = claims.bound
        account = self._present(_SERVICEACCOUNTS, bound.namespace, bound.serviceaccount, now)
        extra = {_CREDENTIAL: (f"JTI={claims.jti}",)}
        if bound.pod is not None:
            self._present(_PODS, bound.namespace, bound.pod, now)
            extra |= {_POD_NAME: (bound.pod.name,), _POD_UID: (bound.pod.uid,)}
        elif bound.node is not None:
            self._present(_NODES, "", bound.node, now)
        if bound.node is not None:
            extra |= {_NODE_NAME: (bound.node.name,), _NODE_UID: (bound.node.uid,)}
        name = user_name(account.namespace, account.name)
        return User(name, groups(account.namespace), account.uid, extra)

    def _present(self, resource: Resource[Object], namespace: str, reference: _Reference, now: float) -> Stored:
        stored = self._store.get(resource, namespace, reference.name)
        if stored is None or stored.uid != reference.uid:
            raise TokenError(f"the {resource.singular} {reference.name} that the token is of has been deleted")
        ends = stored.decode()["metadata"].get("deletionTimestamp")
        if ends is not None and datetime.datetime.fromisoformat(ends).timestamp() + LEEWAY < now:
            raise TokenError(f"the {resource.singular} {reference.name} that the token is of has been deleted")
        return stored


def _reference(stored: Stored) -> _Reference:
    return _Reference(stored.name, stored.uid)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    # urlsafe_b64decode passes over what is no letter of its alphabet: two texts would be one signature.
    if not text.isascii() or any(each in text for each in "+/=\n"):
        raise ValueError
    return base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), validate=True)


_URL_SAFE = str.maketrans("-_", "+/")
