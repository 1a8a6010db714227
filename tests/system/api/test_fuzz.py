"""Whatever is sent to the real server, it answers with a Status of Kubernetes' own, below 500."""

from __future__ import annotations

import contextlib
import copy
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netlab.api.kinds import protobuf, table
from netlab.api.media_types import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC_MERGE_PATCH
from netlab.api.resources import ALL, PODS, Resource
from tests.system.api.serving import START_TIMEOUT, Server, serving
from tests.unit.api.cluster import deployment, endpoint_slice, pod, service
from tests.unit.api.kinds.values import objects
from tests.unit.api.test_stored_kinds import CASES

Json = Any

MANIFESTS: dict[str, Json] = {
    "namespaces": {"metadata": {"name": "fuzz"}},
    "nodes": {"metadata": {"name": "fuzz"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}},
    "pods": pod(
        "fuzz", hostNetwork=True, tolerations=[{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]
    ),
    "services": service("fuzz", type="LoadBalancer", externalTrafficPolicy="Local"),
    "events": {"metadata": {"name": "fuzz"}, "involvedObject": {"namespace": "default", "name": "p"}, "count": 1},
    "deployments": deployment("fuzz", replicas=3, progressDeadlineSeconds=600),
    "replicasets": deployment("fuzz", minReadySeconds=1),
    "leases": {"metadata": {"name": "fuzz"}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 40}},
    "endpointslices": endpoint_slice("fuzz", ports=[{"port": 80, "name": "http"}]),
}

for _case in CASES:
    _resource = next(each for each in ALL if each.kind == _case[0])
    MANIFESTS[_resource.plural] = {"metadata": {"name": "fuzz"}} | _case[1]

FUZZED: tuple[Resource[Any], ...] = tuple(
    resource for resource in ALL if resource.plural in MANIFESTS and resource.stored_as is None
)

ODD: list[Json] = [
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 63,
    -(1 << 63) - 1,
    10**400,
    1.5,
    -0.0,
    1e300,
    "",
    " ",
    "é\x1b[2J\n",
    "\ud83d",
    "a" * 70_000,
    [],
    {},
    [None],
    {"": None},
    {"$patch": "delete"},
    {"$setElementOrder/ports": [{}, 1]},
    {"$retainKeys": 1},
]

scalars = st.sampled_from(ODD) | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory, serving(Path(directory)) as running:
        for resource in FUZZED:
            code, _ = ask(running, "POST", collection(resource), _encode(MANIFESTS[resource.plural]))
            assert code == (201 if resource.stored_as is None else 409)  # it is there in another version
        yield running


def collection(resource: Resource[Any]) -> str:
    return resource.path("default")


def _encode(value: Json) -> bytes:
    # As other languages' clients may: halves of surrogate pairs are not UTF-8.
    with contextlib.suppress(UnicodeEncodeError):
        return msgspec.json.encode(value)
    import json

    return json.dumps(value).encode()


def ask(server: Server, method: str, target: str | bytes, body: bytes = b"", kind: str = JSON) -> tuple[int, Json]:
    """One request, byte for byte; the code and the JSON of its answer."""
    if isinstance(target, str):
        target = target.encode()
    head = b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(START_TIMEOUT)
        connection.connect(str(server.socket))
        with contextlib.suppress(BrokenPipeError):  # refused before all of it was sent
            connection.sendall(head % (method.encode(), target, kind.encode(), len(body)) + body)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    start, _, rest = answer.partition(b"\r\n\r\n")
    code = int(start.split(b" ", 2)[1])
    if b"application/json" not in start or method == "HEAD":
        return code, None
    if b"transfer-encoding: chunked" in start.lower():
        rest = rest.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    return code, msgspec.json.decode(rest)


def documented(code: int, answer: Json) -> bool:
    """Whether it is an object, or a Status that says why not."""
    if code < 300 and answer.get("type") == "ERROR":
        code, answer = answer["object"]["code"], answer["object"]
    if code < 300:
        return isinstance(answer, dict) and "kind" in answer
    is_refusal = 400 <= code < 500 or answer["reason"] == "Timeout"  # a revision that was not reached
    return is_refusal and answer["kind"] == "Status" and answer["code"] == code and bool(answer["message"])


untimed = settings(max_examples=60, database=None, deadline=None, suppress_health_check=list(HealthCheck))

resources = st.sampled_from(FUZZED)


def _paths(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _with(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = _with(value[path[0]], path[1:], new)
    return changed


@untimed
@given(resources, st.sampled_from(["POST", "PUT", "dry run", "status"]), st.data())
def test_mutated_objects(server: Server, resource: Resource[Any], way: str, data: st.DataObject) -> None:
    manifest = MANIFESTS[resource.plural] | {"status": {"conditions": []}}
    if way in ("POST", "dry run"):
        manifest = manifest | {"metadata": {"generateName": "fuzz-", "labels": {"a": "b"}}}
    path = data.draw(st.sampled_from(list(_paths(manifest))))
    mutated = _with(manifest, path, data.draw(values))
    target, method = f"{collection(resource)}/fuzz", "PUT"
    if way in ("POST", "dry run"):
        target, method = collection(resource) + ("?dryRun=All" if way == "dry run" else ""), "POST"
    elif way == "status":
        target += "/status"
    code, answer = ask(server, method, target, _encode(mutated))
    assert documented(code, answer), (code, answer)


@untimed
@given(resources, st.sampled_from(["", "/status"]), st.data())
def test_mutated_objects_that_are_applied(
    server: Server, resource: Resource[Any], part: str, data: st.DataObject
) -> None:
    manifest = {"apiVersion": resource.api_version, "kind": resource.kind} | MANIFESTS[resource.plural]
    path = data.draw(st.sampled_from(list(_paths(manifest))))
    mutated = _with(manifest, path, data.draw(values))
    options = data.draw(st.sampled_from(["force=1", "fieldValidation=Strict", "force=1&fieldManager=%0a"]))
    target = f"{collection(resource)}/fuzz{part}?dryRun=All&fieldManager=kubectl&{options}"
    code, answer = ask(server, "PATCH", target, _encode(mutated), APPLY_PATCH)
    assert documented(code, answer), (code, answer)


ENTRY = {
    "manager": "m",
    "operation": "Apply",
    "apiVersion": "v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}}, "v:1": {}, "i:1": {}}}},
}


@untimed
@given(st.data())
def test_mutated_managed_fields(server: Server, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(_paths(ENTRY))))
    entry = _with(ENTRY, path, data.draw(values))
    if data.draw(st.booleans()):
        element = data.draw(st.sampled_from(["k:", "v:", "i:", "f:", "x:", ""])) + data.draw(st.text(max_size=8))
        entry = ENTRY | {"fieldsV1": {element: {element: {}}}}
    change = {"metadata": {"managedFields": [entry], "labels": {"a": "b"}}}
    target = f"{collection(PODS)}/fuzz?dryRun=All"
    code, answer = ask(server, "PATCH", target, _encode(change), MERGE_PATCH)
    assert documented(code, answer), (code, answer)


PATCH_KINDS = [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH]

DOUBLING = [{"op": "add", "path": "/metadata/annotations", "value": {}}, {"op": "add", "path": "/x", "value": [1]}] + [
    {"op": "copy", "from": "/x", "path": "/x/-"}
] * 40


@untimed
@given(resources, st.sampled_from(PATCH_KINDS), values)
@example(PODS, MERGE_PATCH, {"spec": {"a": None}})
@example(PODS, JSON_PATCH, DOUBLING)
@example(PODS, JSON_PATCH, [{"op": "test", "path": f"/spec/containers/{'9' * 5000}", "value": 1}])
@example(PODS, JSON_PATCH, [{"op": "add", "path": "/a" * 5000, "value": 1}])
@example(PODS, JSON_PATCH, [{"op": "add", "path": "", "value": []}])
@example(PODS, JSON_PATCH, [{"op": "test", "path": "", "value": 1}] * 10_001)
def test_patches(server: Server, resource: Resource[Any], kind: str, change: Json) -> None:
    for target in (f"{collection(resource)}/fuzz?dryRun=All", f"{collection(resource)}/fuzz/status?dryRun=All"):
        code, answer = ask(server, "PATCH", target, _encode(change), kind)
        assert documented(code, answer), (code, answer)


pointers = st.lists(
    st.sampled_from(["metadata", "spec", "status", "labels", "containers", "ports", "0", "-", "1", "01", "~1", ""]),
    max_size=5,
).map(lambda parts: "".join(f"/{part}" for part in parts))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])},
    optional={"path": pointers, "from": pointers, "value": values},
)


@untimed
@given(resources, st.lists(operations, max_size=8))
def test_operations_of_json_patches(server: Server, resource: Resource[Any], change: Json) -> None:
    code, answer = ask(server, "PATCH", f"{collection(resource)}/fuzz?dryRun=All", _encode(change), JSON_PATCH)
    assert documented(code, answer), (code, answer)


def _nested(open_: bytes, close: bytes, levels: int) -> bytes:
    return open_ * levels + b"1" + close * levels


@untimed
@given(
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    st.binary(max_size=300),
    st.sampled_from([JSON, *PATCH_KINDS, PROTOBUF, "x"]),
)
@example("POST", b'{"metadata":{"name":"\xff"}}', JSON)
@example("POST", b'{"metadata":{"name":"\\ud800"}}', JSON)
@example("POST", _nested(b'{"a":', b"}", 600), JSON)
@example("PATCH", _nested(b'{"a":', b"}", 600), MERGE_PATCH)
@example("PATCH", _nested(b'{"a":', b"}", 900), STRATEGIC_MERGE_PATCH)
@example("PATCH", _nested(b"[", b"]", 600), JSON_PATCH)
@example("POST", b'{"spec":' + b"9" * 10_000 + b"}", JSON)
@example("DELETE", b'{"gracePeriodSeconds":' + b"9" * 100 + b"}", JSON)
@example("POST", b'{"a":1e400}', JSON)
def test_bodies_of_bytes(server: Server, method: str, body: bytes, kind: str) -> None:
    target = "/api/v1/namespaces/default/pods" + ("" if method == "POST" else "/fuzz?dryRun=All")
    code, answer = ask(server, method, target, body, kind)
    assert documented(code, answer), (code, answer)


def _changed(body: bytes, at: int, piece: bytes) -> bytes:
    at %= len(body)
    return body[:at] + piece + body[at + len(piece) :]


@untimed
@given(st.sampled_from(["POST", "PUT", "DELETE"]), resources, st.data())
def test_bodies_in_protobuf(server: Server, method: str, resource: Resource[Any], data: st.DataObject) -> None:
    message = table.message_of(resource.api_version, resource.kind)
    assert message is not None
    obj = {"apiVersion": resource.api_version, "kind": resource.kind} | data.draw(objects(message.name))
    body = protobuf.encode(obj)
    if data.draw(st.booleans()):
        body = _changed(body, data.draw(st.integers(0, 400)), data.draw(st.binary(max_size=4)))
    target = collection(resource) + ("" if method == "POST" else "/fuzz")
    code, answer = ask(server, method, f"{target}?dryRun=All", body, PROTOBUF)
    assert documented(code, answer), (code, answer)


texts = (
    st.text(max_size=30)
    | st.integers().map(str)
    | st.sampled_from(["9" * 4301, "9" * 19, "-1", "1e3", "a in (", "a>1", "!"])
)
PARAMETERS = [
    "resourceVersion",
    "limit",
    "continue",
    "labelSelector",
    "fieldSelector",
    "dryRun",
    "gracePeriodSeconds",
    "timeoutSeconds",
    "propagationPolicy",
    "orphanDependents",
    "fieldValidation",
    "resourceVersionMatch",
    "sendInitialEvents",
]

parameters = st.dictionaries(st.sampled_from(PARAMETERS), texts, min_size=1, max_size=3)


@untimed
@given(st.sampled_from(["GET", "DELETE"]), resources, parameters, st.booleans())
@example("GET", PODS, {"resourceVersion": "9" * 4301}, True)
@example("GET", PODS, {"timeoutSeconds": "9" * 4301}, True)
@example("GET", PODS, {"labelSelector": "a>" + "9" * 4301}, False)
@example("GET", PODS, {"labelSelector": "a>" + "9" * 4301}, True)
def test_parameters(server: Server, method: str, resource: Resource[Any], given: dict[str, str], watched: bool) -> None:
    if watched and method == "GET":
        # A watch that is granted lasts: it is asked for from a version that is not there yet, or is no number.
        if given.get("resourceVersion", "").strip().isdecimal() or not given.get("resourceVersion"):
            given = given | {"resourceVersion": "9" * max(8, len(given.get("resourceVersion", "")))}
        given = given | {"watch": "1", "allowWatchBookmarks": "1"}
    target = f"{collection(resource)}/none" if method == "DELETE" else collection(resource)
    query = urlencode(given, errors="surrogatepass")
    code, answer = ask(server, method, f"{target}?{query}")
    assert documented(code, answer), (code, answer)


segments = st.lists(
    st.sampled_from(
        ["api", "apis", "v1", "apps", "namespaces", "default", "pods", "fuzz", "status", "binding", "..", ""]
    )
    | st.text(max_size=8),
    max_size=7,
)


@untimed
@given(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"]), segments, st.booleans())
def test_paths(server: Server, method: str, parts: list[str], raw: bool) -> None:
    path = "/" + "/".join(parts)
    written = path.encode("utf-8", "surrogatepass") if raw else quote(path, errors="surrogatepass").encode()
    code, _ = ask(server, method, written.translate(None, b" \r\n\t\x00?#") + b"?dryRun=All", b"{}", MERGE_PATCH)
    assert code < 500


def test_the_server_is_well_after_all_that(server: Server) -> None:
    code, answer = ask(server, "GET", "/api/v1/pods")
    assert (code, answer["kind"]) == (200, "PodList")
    assert server.process is not None
    assert server.process.poll() is None
