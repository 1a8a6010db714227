"""/openapi as clients ask for it, and what kubectl makes of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import pytest

from netlab.api.server.openapi import PROTOBUF
from tests.kubectl import Kubectl, kubectl, programs
from tests.system.api.serving import Server

_OLDER = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.mark.parametrize(
    ("path", "headers", "code", "media_type"),
    [
        ("/openapi/v2", {}, 200, "application/json"),
        ("/openapi/v2", {"Accept": "*/*"}, 200, "application/json"),
        ("/openapi/v2", {"Accept": f"{_OLDER}, */*"}, 200, PROTOBUF),
        ("/openapi/v2", {"Accept": f"{PROTOBUF};q=0.9"}, 200, PROTOBUF),
        ("/openapi/v2", {"Accept": "text/html"}, 406, "application/json"),
        ("/openapi/v3", {}, 200, "application/json"),
        ("/openapi/v3/api/v1", {}, 200, "application/json"),
        ("/openapi/v3/apis/apps/v1", {"Accept": "application/json"}, 200, "application/json"),
        ("/openapi/v3/apis/apps/v1", {"Accept": PROTOBUF}, 406, "application/json"),
        ("/openapi/v3/apis/apps/v2", {}, 404, "application/json"),
        ("/openapi/v3/apis/apps/v1?hash=OLD", {}, 301, None),
    ],
)
def test_documents_are_negotiated(
    server_of_module: Server, path: str, headers: dict[str, str], code: int, media_type: str | None
) -> None:
    async def check() -> None:
        async with (
            server_of_module.http() as http,
            http.get(path, headers=headers, allow_redirects=False) as response,
        ):
            assert response.status == code
            assert media_type in (None, response.headers.get("Content-Type"))

    asyncio.run(check())


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1"])
def test_what_a_client_has_is_not_sent_again(server_of_module: Server, path: str) -> None:
    async def check() -> None:
        async with server_of_module.http() as http:
            async with http.get(path, headers={"Accept-Encoding": "identity"}) as response:
                tag = response.headers["ETag"]
            async with http.get(path, headers={"If-None-Match": f'"else", W/{tag}'}) as response:
                assert (response.status, await response.read()) == (304, b"")
            async with http.get(path, headers={"If-None-Match": '"else"'}) as response:
                assert response.status == 200

    asyncio.run(check())


def test_a_document_is_compressed_for_who_takes_it(server_of_module: Server) -> None:
    async def check() -> None:
        async with server_of_module.http() as http:
            http._auto_decompress = False
            for accepted, is_compressed in (("gzip, br", True), ("*", True), ("gzip;q=0", False), ("identity", False)):
                async with http.get("/openapi/v2", headers={"Accept-Encoding": accepted}) as response:
                    body = await response.read()
                    assert (response.headers.get("Content-Encoding") == "gzip") is is_compressed
                    assert (gzip.decompress(body) if is_compressed else body).startswith(b"{")

    asyncio.run(check())


def test_the_index_leads_to_documents_that_may_be_kept(server_of_module: Server) -> None:
    async def check() -> None:
        async with server_of_module.http() as http:
            async with http.get("/openapi/v3") as response:
                paths = (await response.json())["paths"]
            assert {"api/v1", "apis/apps/v1"} <= set(paths)
            for each in paths.values():
                async with http.get(each["serverRelativeURL"]) as response:
                    assert response.status == 200
                    assert response.headers["Cache-Control"] == "public, immutable"
                    assert response.headers["ETag"].strip('"') in each["serverRelativeURL"]
            async with http.get("/openapi/v3/api/v1?hash=OLD") as response:
                assert str(response.url).endswith(paths["api/v1"]["serverRelativeURL"])

    asyncio.run(check())


# --- kubectl -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=programs())
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Kubectl]:
    with kubectl(request.param, server.socket) as running:
        yield running


_WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: agnhost, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


def test_kubectl_checks_and_merges_what_is_applied(client: Kubectl) -> None:
    assert client("apply", "-f", "-", text=_WEB) == "deployment.apps/web created\nservice/web created\n"
    changed = _WEB.replace("image: agnhost", "image: pause")
    assert client("apply", "-f", "-", text=changed).splitlines()[0] == "deployment.apps/web configured"
    containers = client("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}")
    assert containers == "pause"
    client("replace", "-f", "-", text=_WEB)
    client("edit", "service", "web", EDITOR="sed -i s/8080/8081/")
    assert client("get", "service", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8081"
    mistaken = client.run("create", "-f", "-", text=_WEB.replace("image:", "imag:").replace("name: web}", "name: b}"))
    assert mistaken.returncode == 1
    assert 'unknown field "' in mistaken.stderr


def test_kubectl_explains_kinds(client: Kubectl) -> None:
    said = " ".join(client("explain", "pod.spec.containers").split())
    assert "A program that runs in a pod." in said
    assert "livenessProbe <" in said
    assert client.run("explain", "pod.spec.nothing").returncode == 1
    measured = client("explain", "podmetrics.containers")
    assert "What each of them used." in measured
    assert "usage" in measured
