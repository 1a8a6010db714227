"""What the certificate authority gives out over the API."""

from __future__ import annotations

import asyncio
import base64
from typing import TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from netlab.api.resources import CREDENTIALS
from netlab.api.server import refusals
from netlab.api.server.access.authentication import caller
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.tokens import ALGORITHM, ISSUER
from netlab.api.server.identity import MASTERS, OWNER
from netlab.api.server.rest import responses


class Credentials(TypedDict):
    """An identity and whom to trust, in PEM form."""

    certificateAuthority: str
    certificate: str
    key: str


DISCOVERY, _KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
"""By which others verify service accounts' tokens (OpenID Connect Discovery 1.0, RFC 7517)."""
_MAY_BE_KEPT = {"Cache-Control": "public, max-age=3600"}


def routes(authority: Authority, address: str) -> list[Route]:
    """The paths that the authority answers; clients of the cluster reach the server at `address` (HOST:PORT)."""

    async def issue(request: Request) -> Response:
        user = caller(request.scope)
        if MASTERS not in user.groups:
            return responses.refusal(refusals.path_forbidden(user.name, "post", CREDENTIALS))
        signed = await asyncio.to_thread(authority.issue_client, OWNER.name, [MASTERS])
        issued: Credentials = {
            "certificateAuthority": authority.certificate.decode("ascii"),
            "certificate": signed.certificate.decode("ascii"),
            "key": signed.key.decode("ascii"),
        }
        return responses.document(msgspec.json.encode(issued), 201)

    async def discover(_: Request) -> Response:
        found = {
            "issuer": ISSUER,
            "jwks_uri": f"https://{address}{_KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }
        return Response(msgspec.json.encode(found), headers=_MAY_BE_KEPT, media_type="application/json")

    async def keys(_: Request) -> Response:
        numbers = (part.to_bytes(32) for part in authority.public_numbers)
        x, y = (base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in numbers)
        named = {"use": "sig", "kty": "EC", "kid": authority.key_id, "crv": "P-256", "alg": ALGORITHM}
        content = msgspec.json.encode({"keys": [named | {"x": x, "y": y}]})
        return Response(content, headers=_MAY_BE_KEPT, media_type="application/jwk-set+json")

    return [
        Route(CREDENTIALS, issue, methods=["POST"]),
        Route(DISCOVERY, discover),
        Route(_KEYS, keys),
    ]
