"""Custom resources as clients see them: over HTTP, and by kubectl. Each test has a group of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from netlab.api.media_types import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC_MERGE_PATCH, YAML
from tests.kubectl import Kubectl, kubectl, programs
from tests.system.api.serving import Json, Server
from tests.system.api.test_server_side_apply import Api
from tests.unit.api.definitions import SCALE, definition, version

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

_LIDS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1}},
    },
}

_SCHEMA: Json = {
    "type": "object",
    "description": "Something to put things in.",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                # Backtracking would try each of a text's partitions.
                "code": {"type": "string", "pattern": "^(a+)+$", "description": "What is printed on it."},
                "replicas": {"type": "integer"},
                "lids": _LIDS,
                "any": {"x-kubernetes-preserve-unknown-fields": True},
                "nullable": {"type": "string", "nullable": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
_FIELDS: Json = {
    "schema": {"openAPIV3Schema": _SCHEMA},
    "subresources": {"status": {}, "scale": SCALE},
    "additionalPrinterColumns": [{"name": "Code", "type": "string", "jsonPath": ".spec.code"}],
    "selectableFields": [{"jsonPath": ".spec.code"}],
}


@pytest.fixture
def api(server_of_module: Server) -> Api:
    return Api(server_of_module)


def _defined(api: Api, group: str, *versions: Json) -> str:
    """Define boxes of a group; the path of those in the default namespace."""
    manifest = definition("Box", *(versions or (version(**_FIELDS),)), group=group, shortNames=["bx"])
    code, answer = api.ask("POST", DEFINITIONS, manifest)
    assert code == 201, answer
    return f"/apis/{group}/v1/namespaces/default/boxes"


def _box(group: str, name: str = "b", **spec: Any) -> Json:
    return {"apiVersion": f"{group}/v1", "kind": "Box", "metadata": {"name": name}, "spec": spec}


def test_a_box_is_what_its_definition_says(api: Api) -> None:
    group = "written.example.com"
    path = _defined(api, group)
    code, box = api.ask("POST", path, _box(group, code="aaa", weight=1, any={"x": [1]}))
    assert (code, box["spec"]) == (201, {"code": "aaa", "any": {"x": [1]}})
    assert api.warnings == ['299 - "unknown field \\"spec.weight\\""']
    text = f"apiVersion: {group}/v1\nkind: Box\nmetadata: {{name: yaml}}\nspec: {{code: aa}}"
    assert api.ask("POST", path, text, YAML, dryRun="All")[1]["spec"] == {"code": "aa"}
    assert api.ask("POST", path, f"{text}\nspec: {{}}", YAML, fieldValidation="Strict")[0] == 400
    code, refusal = api.ask("POST", path, _box(group, "c", code="a" * 100_000 + "b"))
    assert (code, refusal["reason"], refusal["details"]["causes"][0]["field"]) == (422, "Invalid", "spec.code")
    listed = api.ask("GET", path, fieldSelector="spec.code=aaa", limit="1")[1]
    assert (listed["kind"], [each["metadata"]["name"] for each in listed["items"]]) == ("BoxList", ["b"])
    assert api.ask("GET", path, fieldSelector="spec.weight=1")[0] == 400
    for kind, change, expected in (
        (MERGE_PATCH, {"spec": {"replicas": 2}}, 200),
        (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 3}], 200),
        (STRATEGIC_MERGE_PATCH, {"spec": {"replicas": 4}}, 415),
        (PROTOBUF, "", 415),
    ):
        assert api.ask("PATCH", f"{path}/b", change, kind)[0] == expected
    assert api.ask("GET", f"{path}/b")[1]["metadata"]["generation"] == 3
    scale = api.ask("GET", f"{path}/b/scale")[1]
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 3})
    assert api.ask("PATCH", f"{path}/b/scale", {"spec": {"replicas": 7}}, MERGE_PATCH)[1]["spec"] == {"replicas": 7}
    assert api.ask("PATCH", f"{path}/b/status", {"status": {"x": 1}}, MERGE_PATCH)[1]["status"] == {"x": 1}
    code, _ = api.ask("DELETE", path)
    assert (code, api.ask("GET", path)[1]["items"]) == (200, [])


def test_a_box_is_applied(api: Api) -> None:
    group = "applied.example.com"
    path = f"{_defined(api, group)}/b"
    assert api.apply(path, _box(group, lids=[{"name": "top", "size": 2}]), "one")[0] == 201
    code, box = api.apply(path, _box(group, lids=[{"name": "bottom"}]), "two")
    assert (code, box["spec"]["lids"]) == (200, [{"name": "top", "size": 2}, {"name": "bottom", "size": 1}])
    code, refusal = api.apply(path, _box(group, lids=[{"name": "top", "size": 3}]), "two")
    assert (code, refusal["details"]["causes"][0]["field"]) == (409, '.spec.lids[name="top"].size')
    box = api.apply(path, _box(group), "one")[1]
    assert box["spec"]["lids"] == [{"name": "bottom", "size": 1}]
    code, refusal = api.apply(path, _box(group, weight=1), "one")
    assert (code, ".spec.weight: field not declared in schema" in refusal["message"]) == (400, True)
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "b"}, "spec": {"replicas": 4}}
    assert api.apply(f"{path}/scale", scale, "scaler")[1]["spec"] == {"replicas": 4}


def _accepting(api: Api, path: str, accept: str) -> tuple[int, str, bytes]:
    connection = api.connection()
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read()
    connection.close()
    return found


def test_what_a_box_can_be_returned_as(api: Api) -> None:
    group = "shown.example.com"
    path = _defined(api, group)
    api.ask("POST", path, _box(group, code="a"))
    assert _accepting(api, path, PROTOBUF)[0] == 406
    assert _accepting(api, path, f"{PROTOBUF}, {JSON}")[:2] == (200, JSON)
    form = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert _accepting(api, path, f"{PROTOBUF};{form}")[:2] == (200, PROTOBUF)
    table = msgspec.json.decode(_accepting(api, path, f"{JSON};as=Table;g=meta.k8s.io;v=v1")[2])
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Code"]
    assert table["rows"][0]["cells"] == ["b", "a"]


def test_several_versions_and_their_ends(api: Api) -> None:
    group = "several.example.com"
    older = version("v1beta1", storage=False, deprecated=True, deprecationWarning="use v1", **_FIELDS)
    path = _defined(api, group, version(**_FIELDS), older)
    api.ask("POST", path, _box(group, code="a"))
    before = path.replace("v1", "v1beta1")
    assert api.ask("GET", f"{before}/b")[1]["apiVersion"] == f"{group}/v1beta1"
    assert api.warnings == ['299 - "use v1"']
    document = api.ask("GET", f"/apis/{group}")[1]
    assert [each["version"] for each in document["versions"]] == ["v1", "v1beta1"]
    [entry, *parts] = api.ask("GET", f"/apis/{group}/v1")[1]["resources"]
    assert (entry["name"], entry["kind"], entry["shortNames"]) == ("boxes", "Box", ["bx"])
    assert {each["name"] for each in parts} == {"boxes/status", "boxes/scale"}
    change = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    assert api.ask("PATCH", f"{DEFINITIONS}/boxes.{group}", change, JSON_PATCH)[0] == 200
    assert api.ask("GET", before)[0] == 404
    watch = api.connection()
    watch.request("GET", f"{path}?watch=1&resourceVersion={api.ask('GET', path)[1]['metadata']['resourceVersion']}")
    lines = watch.getresponse()
    api.ask("DELETE", f"{DEFINITIONS}/boxes.{group}")
    # The watch tells that each is gone, and ends.
    events = [msgspec.json.decode(line) for line in lines.read().splitlines()]
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [("DELETED", "b")]
    watch.close()
    assert api.ask("GET", path)[0] == 404
    assert api.ask("GET", f"/apis/{group}")[0] == 404


def test_documents_follow_definitions(api: Api) -> None:
    group = "described.example.com"
    key = "com.example.described.v1.Box"
    assert f"apis/{group}/v1" not in api.ask("GET", "/openapi/v3")[1]["paths"]
    _defined(api, group)
    address = api.ask("GET", "/openapi/v3")[1]["paths"][f"apis/{group}/v1"]["serverRelativeURL"]
    document = api.ask("GET", address)[1]
    schema = document["components"]["schemas"][key]
    assert schema["properties"]["spec"] == _SCHEMA["properties"]["spec"]
    assert schema["x-kubernetes-group-version-kind"] == [{"group": group, "kind": "Box", "version": "v1"}]
    patch = document["paths"][f"/apis/{group}/v1/namespaces/{{namespace}}/boxes/{{name}}"]["patch"]
    assert set(patch["requestBody"]["content"]) == {JSON_PATCH, MERGE_PATCH, APPLY_PATCH}
    simple = api.ask("GET", "/openapi/v2")[1]["definitions"][key]["properties"]["spec"]["properties"]
    # What older clients would misunderstand is left open.
    assert simple["nullable"] == {}
    assert simple["any"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert simple["lids"] == _LIDS
    api.ask("DELETE", f"{DEFINITIONS}/boxes.{group}")
    assert key not in api.ask("GET", "/openapi/v2")[1]["definitions"]


def test_definitions_with_what_nobody_knows(api: Api) -> None:
    manifest = definition(group="strict.example.com")
    schema = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        **schema,
        "properties": {"spec": {"type": "array", "items": {"type": "string", "maxLenght": 1}}},
    }
    code, refusal = api.ask("POST", DEFINITIONS, manifest, fieldValidation="Strict", dryRun="All")
    assert (code, "openAPIV3Schema.properties[spec].items.maxLenght" in refusal["message"]) == (400, True)
    schema["properties"]["spec"] = {"type": "string", "pattern": "("}
    manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    code, refusal = api.ask("POST", DEFINITIONS, manifest)
    assert (code, "must be a valid regular expression, but isn't" in refusal["message"]) == (422, True)


# --- kubectl -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=programs())
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Kubectl]:
    with kubectl(request.param, server.socket) as running:
        yield running


def test_kubectl_works_with_them(client: Kubectl) -> None:
    manifest = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    manifest |= definition("Box", version(**_FIELDS), shortNames=["bx"], categories=["all"])
    client("apply", "-f", "-", text=msgspec.json.encode(manifest).decode())
    client("wait", "--for=condition=established", "crd/boxes.example.com", "--timeout=10s")
    said = " ".join(client("explain", "box.spec").split())
    assert "What is printed on it." in said
    box = _box("example.com", code="a")
    for changed, outcome in ((box, "created"), (box, "unchanged"), (_box("example.com", code="aa"), "configured")):
        text = msgspec.json.encode(changed).decode()
        assert client("apply", "-f", "-", text=text) == f"box.example.com/b {outcome}\n"
    mistaken = client.run("create", "-f", "-", text=msgspec.json.encode(_box("example.com", "c", cod="a")).decode())
    assert (mistaken.returncode, 'unknown field "' in mistaken.stderr) == (1, True)
    assert client("get", "bx").split() == ["NAME", "CODE", "b", "aa"]
    assert "box.example.com/b" in client("get", "all", "-o", "name")
    client("patch", "box", "b", "--type=merge", "-p", '{"spec":{"replicas":1}}')
    client("scale", "box/b", "--replicas=3")
    assert client("get", "boxes.example.com", "b", "-o", "jsonpath={.spec.replicas}") == "3"
    client("delete", "crd", "boxes.example.com")
    assert client.run("get", "boxes").returncode == 1
