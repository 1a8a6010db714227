"""The server as its clients see it: every verb over the real socket."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

import msgspec
import pytest
from yarl import URL

from netlab.api.client import Client
from netlab.api.core_types import Event, Namespace, Node, ObjectReference, PodStatus, Service, ServicePort, ServiceSpec
from netlab.api.errors import ApiError
from netlab.api.informer import Informer
from netlab.api.media_types import JSON, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import ALL, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, SERVED, SERVICES
from netlab.api.server.admission.namespacelifecycle import SYSTEM_NAMESPACES
from tests.system.api.serving import Json, Server, pod

_PODS = "/api/v1/namespaces/default/pods"


async def _refusal(awaitable: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        await awaitable
    return refused.value.code, refused.value.reason


def test_an_objects_life(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            made = await client.create(PODS, pod("p", app="web"))
            assert made.spec.restartPolicy == "Always"
            assert await client.get(PODS, "p", "default") == made
            assert (await client.list(PODS, "default", labels="app=web"))[0] == [made]
            assert (await client.list(PODS, labels="app!=web"))[0] == []
            assert await _refusal(client.create(PODS, pod("p"))) == (409, "AlreadyExists")
            await client.bind("p", "default", "node-1")
            assert await _refusal(client.bind("p", "default", "node-1")) == (409, "Conflict")
            assert await _refusal(client.update(PODS, made)) == (409, "Conflict")
            bound = await client.get(PODS, "p", "default")
            bound.status = PodStatus(phase="Running", podIP="10.244.0.5")
            running = await client.update(PODS, bound, "status")
            assert running.status.podIP == "10.244.0.5"
            assert [item.key for item in (await client.list(PODS, fields="spec.nodeName=node-1"))[0]] == ["default/p"]
            change = {"metadata": {"annotations": {"a": "b"}}}
            assert (await client.patch(PODS, "p", "default", change)).metadata.annotations == {"a": "b"}
            assert await _refusal(client.delete(PODS, "p", "default", uid="another")) == (409, "Conflict")
            await client.delete(PODS, "p", "default")
            assert (await client.get(PODS, "p", "default")).metadata.deletionGracePeriodSeconds == 30
            await client.delete(PODS, "p", "default", grace_period_seconds=0, uid=made.metadata.uid)
            assert await _refusal(client.get(PODS, "p", "default")) == (404, "NotFound")

    asyncio.run(live())


def test_a_service_of_each_family(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            spec = ServiceSpec(ports=[ServicePort(port=80)], ipFamilyPolicy="RequireDualStack", type="NodePort")
            meta = ObjectMeta(name="s", namespace="default")
            made = await client.create(SERVICES, Service(metadata=meta, spec=spec))
            assert made.spec.ipFamilies == ["IPv4", "IPv6"]
            assert 30000 <= made.spec.ports[0].nodePort <= 30099
            await client.delete(SERVICES, "s", "default")
            assert (await client.list(SERVICES))[0] == []

    asyncio.run(live())


def test_cluster_scoped_objects_and_namespaces(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            await client.create(NODES, Node(metadata=ObjectMeta(name="node-1")))
            assert [node.key for node in (await client.list(NODES))[0]] == ["node-1"]
            await client.create(NAMESPACES, Namespace(metadata=ObjectMeta(name="n")))
            about = ObjectReference(kind="Pod", namespace="n", name="p")
            event = Event(metadata=ObjectMeta(generateName="p.", namespace="n"), involvedObject=about, reason="Why")
            await client.create(EVENTS, event)
            assert len((await client.list(EVENTS, fields="involvedObject.name=p"))[0]) == 1
            await client.delete(NAMESPACES, "n")
            assert (await client.get(NAMESPACES, "n")).status.phase == "Terminating"
            assert await _refusal(client.create(EVENTS, event)) == (403, "Forbidden")

    asyncio.run(live())


def test_the_three_patches(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            await client.create(PODS, pod("p"))
            container = {"name": "c", "image": "agnhost:2.53"}

            async def image(change: Any, kind: str) -> str:
                return (await client.patch(PODS, "p", "default", change, patch_type=kind)).spec.containers[0].image

            strategic = {"spec": {"containers": [container]}}
            assert await image(strategic, STRATEGIC_MERGE_PATCH) == "agnhost:2.53"
            operations = [{"op": "replace", "path": "/spec/containers/0/image", "value": "agnhost:2.40"}]
            assert await image(operations, JSON_PATCH) == "agnhost:2.40"
            merge = {"spec": {"containers": [container | {"imagePullPolicy": "IfNotPresent"}]}}
            merge["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
            assert await image(merge, MERGE_PATCH) == "agnhost:2.53"
            with pytest.raises(ApiError, match=r"operation 0: there is no \"absent\""):
                await image([{"op": "remove", "path": "/absent"}], JSON_PATCH)
            assert await _refusal(image({}, "application/apply-patch+cbor")) == (415, "UnsupportedMediaType")

    asyncio.run(live())


def test_increments_by_many_at_once_all_count(server: Server) -> None:
    async def increment(client: Client) -> None:
        while True:
            node = await client.get(NODES, "node-1")
            node.metadata.annotations["n"] = str(int(node.metadata.annotations["n"]) + 1)
            try:
                await client.update(NODES, node)
            except ApiError as error:
                if error.reason != "Conflict":
                    raise
            else:
                return

    async def live() -> None:
        async with server.client() as client:
            await client.create(NODES, Node(metadata=ObjectMeta(name="node-1", annotations={"n": "0"})))
            await asyncio.gather(*(increment(client) for _ in range(20)))
            assert (await client.get(NODES, "node-1")).metadata.annotations["n"] == "20"

    asyncio.run(live())


def _answer(connection: socket.socket) -> bytes:
    """One answer in JSON."""
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(1 << 16)
    return answer


_MANY = [{"name": "", "image": "x"}] * 20_000
"""Containers, each with something wrong: the most that is to be said about a body."""


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", _PODS, {"metadata": {"name": "big"}, "spec": {"containers": _MANY}}, JSON),
        ("PUT", f"{_PODS}/p", {"metadata": {"name": "p"}, "spec": {"containers": _MANY}}, JSON),
        ("PATCH", f"{_PODS}/p", {"spec": {"containers": _MANY}}, MERGE_PATCH),
    ],
)
def test_a_large_body_gives_way_to_other_requests(
    server: Server, method: str, path: str, body: Json, kind: str
) -> None:
    content = msgspec.json.encode(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    get = f"GET {_PODS}/p HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    async def create() -> None:
        async with server.client() as client:
            await client.create(PODS, pod("p"))

    def is_overtaken() -> bool:
        """Whether requests that are sent after the whole body are answered before it."""
        with server.connection() as large, server.connection() as small:
            large.sendall(head.encode() + content)
            for _ in range(4):
                small.sendall(get)
                assert b" 200 " in _answer(small)
            overtaken = not select.select([large], [], [], 0)[0]
            assert b" 422 " in _answer(large)
            return overtaken

    asyncio.run(create())
    assert any(is_overtaken() for _ in range(4))


# --- watches -------------------------------------------------------------------------------------------------------


def test_watch_of_a_selection(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            await client.create(PODS, pod("a", node="node-1"))
            _, version = await client.list(PODS)
            on_node = client.watch(PODS, version, fields="spec.nodeName=node-2")
            await client.create(PODS, pod("b"))
            await client.bind("b", "default", "node-2")
            await client.patch(PODS, "b", "default", {"status": {"phase": "Running"}}, subresource="status")
            await client.delete(PODS, "b", "default", grace_period_seconds=0)
            events = [await anext(on_node) for _ in range(3)]
            assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
            assert events[1].object.status.phase == "Running"
            present = client.watch(PODS, "0")
            assert (await anext(present)).object.key == "default/a"
            await client.create(PODS, pod("c"))
            assert (await anext(present)).object.key == "default/c"
            await on_node.aclose()  # type: ignore[attr-defined]
            await present.aclose()  # type: ignore[attr-defined]

    asyncio.run(live())


def test_watch_refused_and_ended(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client, server.http() as http:
            assert await _refusal(anext(client.watch(PODS, "999999"))) == (410, "Expired")
            assert await _refusal(anext(client.watch(PODS, "x"))) == (400, "BadRequest")
            assert await _refusal(anext(client.watch(PODS, "1", fields="spec.x=y"))) == (400, "BadRequest")
            query = {"watch": "true", "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
            async with http.get("/api/v1/namespaces", params=query) as response:
                lines = [msgspec.json.decode(line) for line in (await response.read()).splitlines()]
            assert [line["object"]["metadata"].get("name") for line in lines[:3]] == list(SYSTEM_NAMESPACES)
            assert [line["type"] for line in lines] == ["ADDED", "ADDED", "ADDED", "BOOKMARK"]

    asyncio.run(live())


def test_informers_live_through_a_restart(server: Server) -> None:
    async def live() -> None:
        async with server.client() as client:
            informer = Informer(client, PODS)
            running = asyncio.create_task(informer.run())
            await informer.synced.wait()
            since = (await client.list(PODS))[1]
            await client.create(PODS, pod("before"))
            loop = asyncio.get_running_loop()
            status, said = await loop.run_in_executor(None, server.end)
            assert (status, said) == (0, "")
            await loop.run_in_executor(None, server.start)
            await client.create(PODS, pod("after"))
            await client.delete(PODS, "before", "default")
            while set(informer.items) != {"default/after"}:
                await asyncio.sleep(0.01)
            running.cancel()
            seen = client.watch(PODS, since)
            assert [(await anext(seen)).object.metadata.name for _ in range(2)] == ["before", "after"]

    asyncio.run(asyncio.wait_for(live(), 60))


# --- plain HTTP ----------------------------------------------------------------------------------------------------

_POD = '{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"%s}]%s}}'


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "message"),
    [
        ("GET", "/nowhere", "", 404, "NotFound", "could not find the requested resource"),
        ("GET", "/api/v2/pods", "", 404, "NotFound", "could not find the requested resource"),
        ("GET", "/api/v1/parcels", "", 404, "NotFound", "could not find the requested resource"),
        ("GET", "/apis/apps/v1/pods", "", 404, "NotFound", "could not find"),
        ("GET", "/api/v1/pods/p", "", 404, "NotFound", "could not find"),
        ("GET", "/api/v1/namespaces/default/nodes", "", 404, "NotFound", "could not find"),
        ("GET", f"{_PODS}/p/none", "", 404, "NotFound", "could not find"),
        ("GET", f"{_PODS}/p", "", 404, "NotFound", 'pods "p" not found'),
        ("GET", "/api/v1/pods?labelSelector=a b", "", 400, "BadRequest", "unable to parse label selector"),
        ("GET", "/api/v1/pods?fieldSelector=x=y", "", 400, "BadRequest", "field label not supported: x"),
        ("PUT", _PODS, "{}", 405, "MethodNotAllowed", "does not allow PUT"),
        ("POST", "/api/v1/pods", _POD % ("", ""), 405, "MethodNotAllowed", "does not allow POST"),
        ("DELETE", "/api/v1/pods", "", 405, "MethodNotAllowed", "does not allow DELETE"),
        ("DELETE", f"{_PODS}/", "", 404, "NotFound", "could not find"),
        ("DELETE", f"{_PODS}//", "", 404, "NotFound", "could not find"),
        ("DELETE", f"{_PODS}/%3Fx=", "", 404, "NotFound", 'pods "?x=" not found'),
        ("DELETE", f"{_PODS}/p%2Fstatus", "", 404, "NotFound", 'pods "p/status" not found'),
        ("DELETE", "/api/v1/nodes/", "", 404, "NotFound", "could not find"),
        ("DELETE", "/api/v1/namespaces//pods", "", 404, "NotFound", "could not find"),
        ("GET", "/api/v1/namespaces//pods", "", 404, "NotFound", "could not find"),
        ("GET", "/api%2Fv1/namespaces", "", 404, "NotFound", "could not find"),
        ("GET", f"{_PODS}/%ff", "", 400, "BadRequest", "not UTF-8"),
        ("POST", _PODS, "{", 400, "BadRequest", "is not valid JSON"),
        ("POST", _PODS, "[" * 100_000, 400, "BadRequest", "is not valid JSON"),
        ("POST", _PODS, "[]", 400, "BadRequest", "is not a JSON object"),
        (
            "POST",
            f"{_PODS}?fieldValidation=Strict",
            _POD % (',"imag":1', ',"nodeName":"a","nodeName":"b"'),
            400,
            "BadRequest",
            'unknown field "spec.containers[0].imag", duplicate field "spec.nodeName" (did you mean "image"?)',
        ),
        (
            "POST",
            f"{_PODS}?fieldValidation=Some",
            _POD % ("", ""),
            422,
            "Invalid",
            'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Some": supported values: '
            '"Ignore", "Warn", "Strict"',
        ),
        ("POST", _PODS, _POD % ("", ',"restartPolicy":"x"'), 422, "Invalid", "spec.restartPolicy: Unsupported value"),
        ("POST", f"{_PODS}?dryRun=Some", _POD % ("", ""), 422, "Invalid", "dryRun: Unsupported value"),
        ("DELETE", f"{_PODS}/p", '{"gracePeriodSeconds":"x"}', 400, "BadRequest", "DeleteOptions"),
        ("POST", f"{_PODS}/p/binding", "{}", 400, "BadRequest", "target.name"),
        ("POST", _PODS, " " * (3 * 1024 * 1024 + 1), 413, "RequestEntityTooLarge", "the limit is 3145728 bytes"),
    ],
)
def test_refusals_are_status_objects(
    server_of_module: Server, method: str, path: str, body: str, code: int, reason: str, message: str
) -> None:
    async def ask() -> tuple[int, Json]:
        asked: Any = {"data": body or None, "headers": {"Content-Type": "application/json"}}
        async with (
            server_of_module.http() as http,
            http.request(method, URL(path, encoded=True) if "%" in path else path, **asked) as response,
        ):
            assert response.content_type == "application/json"
            return response.status, await response.json()

    status, answer = asyncio.run(ask())
    assert status == answer["code"] == code
    assert (answer["kind"], answer["apiVersion"], answer["status"]) == ("Status", "v1", "Failure")
    assert answer["reason"] == reason
    assert message in answer["message"]
    if code == 422:
        option = next((name for name in ("fieldValidation", "dryRun") if name in path), "")
        field, kind = (option, "CreateOptions") if option else ("spec.restartPolicy", "Pod")
        cause = {"reason": "FieldValueNotSupported", "field": field}
        assert answer["details"]["kind"] == kind
        assert cause.items() <= answer["details"]["causes"][0].items()


def test_discovery_and_health(server_of_module: Server) -> None:
    async def ask() -> None:
        async with server_of_module.http() as http:

            async def get(path: str) -> Any:
                async with http.get(path) as response:
                    assert response.status == 200
                    return (
                        await response.json() if response.content_type == "application/json" else await response.text()
                    )

            for path in ("/healthz", "/livez", "/readyz"):
                assert await get(path) == "ok"
            assert (await get("/version"))["major"] == "1"
            assert (await get("/api"))["versions"] == ["v1"]
            groups = [group["name"] for group in (await get("/apis"))["groups"]]
            assert groups == list(dict.fromkeys(resource.group for resource in SERVED if resource.group))
            assert (await get("/apis/apps"))["preferredVersion"]["groupVersion"] == "apps/v1"
            found = set()
            versions = dict.fromkeys(f"/apis/{resource.api_version}" for resource in SERVED if resource.group)
            for path in ("/api/v1", "/apis/apps/v1/", *versions):
                document = await get(path)
                assert document["kind"] == "APIResourceList"
                found |= {(document["groupVersion"], entry["name"]) for entry in document["resources"]}
            assert {(resource.api_version, resource.plural) for resource in ALL} <= found
            assert {("v1", "pods/binding"), ("v1", "pods/status"), ("v1", "namespaces/finalize")} <= found
            listed = await get("/apis/apps/v1/deployments")
            assert (listed["kind"], listed["apiVersion"], listed["items"]) == ("DeploymentList", "apps/v1", [])

    asyncio.run(ask())


def test_warnings_dry_run_and_collections(server: Server) -> None:
    async def ask() -> None:
        body = _POD % (
            ',"securityContext":{"seLinuxOptions":{"level":"s0"}}',
            ',"volumes":[{"name":"v","nfs":{"server":"s","path":"/"}}],"\\u00e9\\"\\u001f":1',
        )
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with server.http() as http, server.client() as client:
            async with http.post(_PODS, params={"dryRun": "All"}, data=body, headers=headers) as response:
                assert response.status == 201
                said = response.headers.getall("Warning")
            assert (await client.list(PODS))[0] == []
            assert [text.split(":")[0] for text in said] == [
                r'299 - "unknown field \"spec.?\"\\x1f\""',
                '299 - "spec.containers[0].securityContext.seLinuxOptions',
                '299 - "spec.volumes[0].nfs',
            ]
            for name in ("a", "b", "c"):
                await client.create(PODS, pod(name, keep=str(name == "b").lower()))
            async with http.delete(_PODS, params={"labelSelector": "keep=false"}) as response:
                assert [item["metadata"]["name"] for item in (await response.json())["items"]] == ["a", "c"]
            assert [item.metadata.name for item in (await client.list(PODS))[0]] == ["b"]
            async with http.delete("/apis/apps/v1/namespaces/default/deployments/x") as response:
                details = (await response.json())["details"]
            assert details == {"name": "x", "group": "apps", "kind": "deployments"}
            assert (await client.list(DEPLOYMENTS))[0] == []

    asyncio.run(ask())
