"""agnhost test-service-account-issuer-discovery: verifies a token by what its issuer publishes (OpenID Connect)."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from netlab.machine.images.incluster import ACCOUNT

_DISCOVERY = "/.well-known/openid-configuration"
_CLUSTER = "kubernetes.default.svc"
"""What the names of the API server begin with: it is reached at its Service's address, for there may be no DNS."""
_PATIENCE = 30.0
"""Seconds for one answer."""


def run(token_path: str, audience: str, env: Mapping[str, str]) -> int:
    """Verify the token in a file, and say so."""
    try:
        token = Path(token_path).read_text(encoding="ascii")
        _say("OK: Got token")
        _say("validating with in-cluster discovery")
        _verify(token, audience, env)
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        _say(f"failed to validate with in-cluster discovery: {error}")
        return 1
    return 0


def _verify(token: str, audience: str, env: Mapping[str, str]) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    head, payload, signature = token.strip().split(".")
    header, claims = (json.loads(_decoded(part)) for part in (head, payload))
    issuer = claims["iss"]
    _say(f"OK: got issuer {issuer}")
    provider = _get(f"{issuer}{_DISCOVERY}", env)
    if provider["issuer"] != issuer:
        raise ValueError(f"oidc: issuer did not match, expected {issuer!r} got {provider['issuer']!r}")
    _say(f"OK: Constructed OIDC provider for issuer {issuer}")
    if audience not in claims["aud"]:
        raise ValueError(f"oidc: expected audience {audience!r} got {claims['aud']!r}")
    if claims["exp"] < time.time():
        raise ValueError("oidc: token is expired")
    keys = _get(provider["jwks_uri"], env)["keys"]
    key = next((each for each in keys if each["kid"] == header["kid"]), None)
    if key is None or header["alg"] != "ES256":
        raise ValueError("oidc: failed to verify signature: no key of the issuer's is the token's")
    x, y, r, s = (
        int.from_bytes(each)
        for each in (_decoded(key["x"]), _decoded(key["y"]), _decoded(signature)[:32], _decoded(signature)[32:])
    )
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    try:
        public.verify(encode_dss_signature(r, s), f"{head}.{payload}".encode(), ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise ValueError("oidc: failed to verify signature") from None
    _say("OK: Validated signature on JWT")
    _say(f"Full, validated claims: {claims}")


def _get(url: str, env: Mapping[str, str]) -> Any:
    """What is at a URL, asked for as the pod's service account."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    host, port = name, parts.port or 443
    if name.startswith(_CLUSTER):
        host, port = env["KUBERNETES_SERVICE_HOST"], int(env["KUBERNETES_SERVICE_PORT"])
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    connection = _Connection(host, port, name, context)
    try:
        token = (ACCOUNT / "token").read_text(encoding="ascii")
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise ValueError(f"{url}: {answer.status} {answer.reason}: {body.decode(errors='replace')}")
        return json.loads(body)
    finally:
        connection.close()


class _Connection(http.client.HTTPSConnection):
    """One to an address, of a server that is known by a name."""

    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=_PATIENCE, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
