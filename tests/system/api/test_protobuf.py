"""Clients that speak protobuf: lists, objects, watches and refusals, and kubectl, which creates by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from netlab.api.kinds import protobuf
from netlab.api.kinds.forms import MAGIC
from netlab.api.media_types import JSON, PROTOBUF
from tests.kubectl import Kubectl, kubectl, programs
from tests.system.api.serving import Server
from tests.unit.api.cluster import pod

_PODS = "/api/v1/namespaces/default/pods"
_ACCEPT = {"Accept": f"{PROTOBUF},{JSON}"}
_BOTH = {"Accept": PROTOBUF, "Content-Type": PROTOBUF}


def _pod(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", **pod(name)}


async def _answer(response: aiohttp.ClientResponse) -> tuple[int, dict[str, Any]]:
    assert response.headers["Content-Type"] == PROTOBUF
    return response.status, protobuf.decode(await response.read())


def test_objects_lists_and_refusals(server: Server) -> None:
    async def check() -> None:
        async with server.http() as http:
            async with http.post(_PODS, data=protobuf.encode(_pod("a")), headers=_BOTH) as response:
                code, created = await _answer(response)
            assert (code, created["metadata"]["name"], created["status"]["phase"]) == (201, "a", "Pending")
            async with http.get(f"{_PODS}/a", headers=_ACCEPT) as response:
                code, found = await _answer(response)
            async with http.get(f"{_PODS}/a") as response:
                plain = await response.json()
            assert found["metadata"] == plain["metadata"]
            assert found["spec"]["containers"][0]["name"] == plain["spec"]["containers"][0]["name"]
            async with http.get(_PODS, headers=_ACCEPT) as response:
                code, listed = await _answer(response)
            assert (code, listed["kind"], len(listed["items"])) == (200, "PodList", 1)
            assert "kind" not in listed["items"][0]
            async with http.get(f"{_PODS}/none", headers=_ACCEPT) as response:
                code, status = await _answer(response)
            assert (code, status["reason"], status["details"]["name"]) == (404, "NotFound", "none")
            found["spec"]["activeDeadlineSeconds"] = 60
            async with http.put(f"{_PODS}/a", data=protobuf.encode(found), headers=_BOTH) as response:
                code, changed = await _answer(response)
            assert (code, changed["spec"]["activeDeadlineSeconds"]) == (200, 60)
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"}}
            async with http.delete(f"{_PODS}/a", data=protobuf.encode(options), headers=_BOTH) as response:
                code, status = await _answer(response)
            assert (code, status["reason"]) == (409, "Conflict")

    asyncio.run(check())


@pytest.mark.parametrize("body", [b"", b"{}", MAGIC, MAGIC + b"\xff\xff", protobuf.encode(_pod("a"))[:-1]])
def test_malformed_bodies_are_refused(server_of_module: Server, body: bytes) -> None:
    async def check() -> None:
        async with (
            server_of_module.http() as http,
            http.post(_PODS, data=body, headers={"Content-Type": PROTOBUF}) as response,
        ):
            assert response.status == 400
            assert "not valid protobuf" in (await response.json())["message"]

    asyncio.run(check())


def test_a_watch_is_a_row_of_frames(server: Server) -> None:
    async def frames(content: aiohttp.StreamReader) -> Any:
        while True:
            length = int.from_bytes(await content.readexactly(4), "big")
            event = await content.readexactly(length)
            kind = event[2 : 2 + event[1]].decode()
            yield kind, protobuf.decode(event[event.index(MAGIC) :])

    async def check() -> None:
        async with server.http() as http:
            async with http.post(_PODS, json=pod("a")) as response:
                assert response.status == 201
            params = {"watch": "1", "allowWatchBookmarks": "1", "sendInitialEvents": "true"}
            params["resourceVersionMatch"] = "NotOlderThan"
            headers = {"Accept": f"{PROTOBUF};stream=watch"}
            async with http.get(_PODS, params=params, headers=headers) as watch:
                assert watch.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
                events = frames(watch.content)
                kind, obj = await anext(events)
                assert (kind, obj["metadata"]["name"]) == ("ADDED", "a")
                kind, obj = await anext(events)
                assert (kind, obj["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
                async with http.delete(f"{_PODS}/a", params={"gracePeriodSeconds": "0"}) as response:
                    assert response.status == 200
                kind, obj = await anext(events)
                assert (kind, obj["kind"], obj["metadata"]["name"]) == ("DELETED", "Pod", "a")
            params = {"watch": "1", "resourceVersion": "99999999"}
            async with http.get(_PODS, params=params, headers=headers) as watch:
                kind, obj = await anext(frames(watch.content))
                assert (kind, obj["kind"], obj["code"]) == ("ERROR", "Status", 410)

    asyncio.run(check())


# --- kubectl -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=programs())
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Kubectl]:
    with kubectl(request.param, server.socket) as running:
        yield running


def test_kubectl_creates(client: Kubectl) -> None:
    assert client("create", "namespace", "demo") == "namespace/demo created\n"
    client("-n", "demo", "create", "deployment", "web", "--image=agnhost", "--port=80", "--replicas=2")
    client("-n", "demo", "create", "service", "clusterip", "web", "--tcp=80:8080")
    replicas = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}"
    assert client("-n", "demo", "get", "deployment", "web", "-o", replicas) == "2 80"
    assert client("-n", "demo", "get", "service", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    again = client.run("create", "namespace", "demo")
    assert (again.returncode, again.stderr) == (
        1,
        'Error from server (AlreadyExists): namespaces "demo" already exists\n',
    )
    refused = client.run("-n", "demo", "create", "service", "clusterip", "web-2", "--tcp=70000:1")
    assert refused.returncode == 1
    assert "70000" in refused.stderr
