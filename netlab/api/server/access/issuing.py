"""What the certificate authority gives out over the API."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from netlab.api.resources import CREDENTIALS
from netlab.api.server import refusals
from netlab.api.server.access.authentication import caller
from netlab.api.server.access.authority import Authority
from netlab.api.server.identity import MASTERS, OWNER
from netlab.api.server.rest import responses


class Credentials(TypedDict):
    """An identity and whom to trust, in PEM form."""

    certificateAuthority: str
    certificate: str
    key: str


def routes(authority: Authority) -> list[Route]:
    """The paths that the authority answers."""

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

    return [Route(CREDENTIALS, issue, methods=["POST"])]
