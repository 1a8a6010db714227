"""What clients other than netlab's own ask for: tables, pages, first events of watches, discovery, health, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec

from netlab.api.media_types import JSON, MERGE_PATCH
from netlab.api.resources import ALL, KUBERNETES, REVIEWS, SERVED
from tests.system.api.serving import Server, pod

_PODS = "/api/v1/namespaces/default/pods"
_DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
_TABLE = {"Accept": f"{JSON};as=Table;v=v1;g=meta.k8s.io,{JSON}"}


def _with(server: Server, live: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def run() -> None:
        async with server.http() as http:
            await live(http)

    asyncio.run(asyncio.wait_for(run(), 120))


async def _create(http: aiohttp.ClientSession, path: str, obj: Any) -> Any:
    body = msgspec.json.encode(obj)
    async with http.post(path, data=body, headers={"Content-Type": JSON}) as response:
        assert response.status == 201, await response.text()
        return await response.json()


async def _get(http: aiohttp.ClientSession, path: str, **options: Any) -> Any:
    async with http.get(path, **options) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in response.content:
        yield msgspec.json.decode(line)


def test_every_kind_is_a_table_and_metadata(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        await _create(http, _PODS, pod("p"))
        for resource in ALL:
            table = await _get(http, resource.path(), headers=_TABLE)
            assert table["kind"] == "Table"
            assert [each["name"] for each in table["columnDefinitions"]] == [
                each.name for each in resource.printer.columns
            ]
            assert all(len(row["cells"]) == len(table["columnDefinitions"]) for row in table["rows"])
            accept = {"Accept": f"{JSON};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
            assert (await _get(http, resource.path(), headers=accept))["kind"] == "PartialObjectMetadataList"
        async with http.get(_PODS, headers={"Accept": "text/html"}) as response:
            assert (response.status, (await response.json())["reason"]) == (406, "NotAcceptable")
        table_only = {"Accept": f"{JSON};as=Table;v=v1;g=meta.k8s.io"}
        async with http.post(REVIEWS[1].path(), data=b"{}", headers=table_only) as response:
            assert response.status == 406, "there are no columns of an answer"
        async with http.post(_PODS, data=b"{}", headers={"Content-Type": "text/html"}) as response:
            assert (response.status, (await response.json())["reason"]) == (415, "UnsupportedMediaType")

    _with(server, live)


_INITIAL = {
    "watch": "true",
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


def test_a_watch_begins_with_what_is_there_and_says_when_that_was_all(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        made = [await _create(http, _PODS, pod(name)) for name in ("a", "b")]
        for headers in ({}, _TABLE):
            async with http.get(_PODS, params=_INITIAL, headers=headers) as response:
                events = _events(response)
                first = [await anext(events) for _ in range(3)]
                assert [event["type"] for event in first] == ["ADDED", "ADDED", "BOOKMARK"]
                end = first[2]["object"]
                end = end["rows"][0]["object"] if end["kind"] == "Table" else end
                assert end["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
                assert int(end["metadata"]["resourceVersion"]) >= int(made[1]["metadata"]["resourceVersion"])
                name = f"later-{len(headers)}"
                await _create(http, _PODS, pod(name))
                event = await anext(events)
                assert event["type"] == "ADDED"
                async with http.delete(f"{_PODS}/{name}", params={"gracePeriodSeconds": "0"}):
                    assert (await anext(events))["type"] == "DELETED"

    _with(server, live)


def test_a_watch_may_begin_with_nothing_or_end_with_an_error(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        await _create(http, _PODS, pod("a"))
        async with http.get(_PODS, params=_INITIAL | {"sendInitialEvents": "false"}) as response:
            await _create(http, _PODS, pod("b"))
            assert (await anext(_events(response)))["object"]["metadata"]["name"] == "b"
        for params, code in (
            (_INITIAL | {"resourceVersion": "999"}, 504),
            ({"watch": "1", "resourceVersion": "999"}, 410),
        ):
            async with http.get(_PODS, params=params) as response:
                (event,) = [each async for each in _events(response)]
                assert (event["type"], event["object"]["code"]) == ("ERROR", code)
        async with http.get(_PODS, params={"watch": "1", "sendInitialEvents": "true"}) as response:
            refusal = await response.json()
            assert (response.status, refusal["reason"]) == (422, "Invalid")
            assert refusal["details"]["causes"][0]["field"] == "resourceVersionMatch"

    _with(server, live)


def test_pages(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        for number in range(3):
            await _create(http, _PODS, pod(f"p{number}"))
        page = await _get(http, _PODS, params={"limit": "2"})
        assert (len(page["items"]), page["metadata"]["remainingItemCount"]) == (2, 1)
        rest = await _get(http, _PODS, params={"limit": "2", "continue": page["metadata"]["continue"]})
        assert [item["metadata"]["name"] for item in rest["items"]] == ["p2"]
        assert rest["metadata"] == {"resourceVersion": page["metadata"]["resourceVersion"]}
        async with http.get(_PODS, params={"continue": "nonsense"}) as response:
            assert response.status == 400

    _with(server, live)


def test_all_of_discovery_at_once(server_of_module: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        form = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        found = {}
        for path in ("/api", "/apis/"):
            async with http.get(path, headers={"Accept": f"{JSON};{form}"}) as response:
                assert response.headers["Content-Type"] == f"{JSON};{form}"
                tag, document = response.headers["ETag"], await response.json()
            assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
            for group in document["items"]:
                for version in group["versions"]:
                    for resource in version["resources"]:
                        found[group["metadata"].get("name", ""), resource["resource"]] = resource
            headers = {"Accept": f"{JSON};{form}", "If-None-Match": tag}
            async with http.get(path, headers=headers) as response:
                assert (response.status, await response.read()) == (304, b"")
        assert found.keys() == {(resource.group, resource.plural) for resource in SERVED}
        deployments = found["apps", "deployments"]
        assert (deployments["scope"], deployments["shortNames"], deployments["categories"]) == (
            "Namespaced",
            ["deploy"],
            ["all"],
        )
        scale = next(each for each in deployments["subresources"] if each["subresource"] == "scale")
        assert scale["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        entries = (await _get(http, "/api/v1"))["resources"]
        eviction = next(each for each in entries if each["name"] == "pods/eviction")
        assert (eviction["kind"], eviction["group"], eviction["version"]) == ("Eviction", "policy", "v1")
        for path in ("/api/", "/apis/", "/version/", "/apis/apps/"):
            await _get(http, path)
        assert (await _get(http, "/version"))["minor"] == KUBERNETES[1]

    _with(server_of_module, live)


def test_scale_and_eviction(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        await _create(http, _DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec})
        scale = await _get(http, f"{_DEPLOYMENTS}/d/scale")
        assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "a=b"})
        body = msgspec.json.encode(scale | {"spec": {"replicas": 4}})
        async with http.put(f"{_DEPLOYMENTS}/d/scale", data=body, headers={"Content-Type": JSON}) as response:
            assert (await response.json())["spec"] == {"replicas": 4}
        async with http.put(f"{_DEPLOYMENTS}/d/scale", data=body, headers={"Content-Type": JSON}) as response:
            assert response.status == 409, "it was made from another version"
        patch = b'{"spec":{"replicas":2}}'
        async with http.patch(f"{_DEPLOYMENTS}/d/scale", data=patch, headers={"Content-Type": MERGE_PATCH}) as response:
            assert response.status == 200, await response.text()
        changed = await _get(http, f"{_DEPLOYMENTS}/d")
        assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (2, 3)
        table = await _get(http, f"{_DEPLOYMENTS}/d/scale", headers=_TABLE)
        assert table["rows"][0]["cells"][:3] == ["d", 2, 0]
        await _create(http, _PODS, pod("p"))
        path = f"{_PODS}/p/eviction"
        answer = await _create(http, f"{path}?dryRun=All", {"kind": "Eviction", "apiVersion": "policy/v1"})
        assert answer["status"] == "Success"
        await _get(http, f"{_PODS}/p")
        await _create(http, path, {"kind": "Eviction", "apiVersion": "policy/v1"})
        async with http.get(f"{_PODS}/p") as response:
            assert response.status == 404
            assert (await response.json())["details"] == {"name": "p", "kind": "pods"}
        async with http.get("/api/v1/nowhere") as response:
            assert (await response.json())["details"] == {}

    _with(server, live)


def test_required_fields_are_there_though_empty(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        node = {"metadata": {"name": "n"}, "status": {"nodeInfo": {"kernelVersion": "6"}}}
        made = await _create(http, "/api/v1/nodes", node)
        assert len(made["status"]["nodeInfo"]) == 10
        patch = b'{"status":{"nodeInfo":{"machineID":null,"bootID":"b"}}}'
        headers = {"Content-Type": MERGE_PATCH}
        async with http.patch("/api/v1/nodes/n/status", data=patch, headers=headers) as response:
            info = (await response.json())["status"]["nodeInfo"]
        assert (info["machineID"], info["bootID"], info["kernelVersion"]) == ("", "b", "6")
        assert (await _create(http, "/api/v1/namespaces/default/events", {"metadata": {"name": "e"}}))[
            "involvedObject"
        ] == {}
        assert all(isinstance(value, str) for value in (await _get(http, "/version")).values())

    _with(server, live)


def test_health_and_metrics(server: Server) -> None:
    async def live(http: aiohttp.ClientSession) -> None:
        for endpoint in ("healthz", "livez", "readyz"):
            async with http.get(f"/{endpoint}?verbose&exclude=ping") as response:
                text = await response.text()
            assert text == f"[+]ping excluded: ok\n[+]database ok\n{endpoint} check passed\n"
            async with http.get(f"/{endpoint}/database") as response:
                assert (response.status, await response.text()) == (200, "ok")
            async with http.get(f"/{endpoint}/x") as response:
                assert response.status == 404
        await _create(http, _PODS, pod("p"))
        await _get(http, f"{_PODS}/p")
        async with http.get(f"{_PODS}/none") as response:
            assert response.status == 404
        async with http.get(_PODS, params={"watch": "1"}), http.get("/metrics") as response:
            assert response.content_type == "text/plain"
            lines = (await response.text()).splitlines()
        about = 'component="apiserver"'
        pods = 'group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"'
        assert f'apiserver_request_total{{code="200",{about},{pods}}} 1.0' in lines
        assert f'apiserver_request_total{{code="404",{about},{pods}}} 1.0' in lines
        assert f"apiserver_request_duration_seconds_count{{{about},{pods}}} 2.0" in lines
        assert 'apiserver_longrunning_requests{group="",resource="pods",verb="WATCH",version="v1"} 1.0' in lines
        assert 'apiserver_resource_objects{group="",resource="pods"} 1.0' in lines

    _with(server, live)
