"""Server-side apply and managedFields, as clients see them. The objects that a test makes have names of its own."""

from __future__ import annotations

import http.client
import socket
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from netlab.api.media_types import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from netlab.api.resources import Resource
from tests.system.api.serving import START_TIMEOUT, Json, Server
from tests.system.api.test_fuzz import FUZZED, MANIFESTS

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


class _Connection(http.client.HTTPConnection):
    def __init__(self, server: Server) -> None:
        super().__init__("api", timeout=START_TIMEOUT)
        self._server = server

    def connect(self) -> None:
        self.sock: socket.socket = self._server.connection()


class Api:
    """Requests of one user agent."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.warnings: list[str] = []

    def connection(self) -> http.client.HTTPConnection:
        """One to ask by in other ways."""
        return _Connection(self._server)

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = JSON, agent: str = "tester/1.0 (x)", **params: str
    ) -> tuple[int, Json]:
        connection = self.connection()
        content = body if isinstance(body, str | None) else msgspec.json.encode(body)
        target = f"{path}?{urlencode(params)}" if params else path
        connection.request(method, target, content, {"Content-Type": kind, "User-Agent": agent})
        answer = connection.getresponse()
        self.warnings = answer.headers.get_all("Warning") or []
        found = msgspec.json.decode(answer.read())
        connection.close()
        return answer.status, found

    def apply(self, path: str, body: Any, manager: str = "applier", **params: str) -> tuple[int, Json]:
        return self.ask("PATCH", path, body, APPLY_PATCH, fieldManager=manager, **params)


@pytest.fixture
def api(server_of_module: Server) -> Api:
    return Api(server_of_module)


def pod(name: str, image: str = "agnhost:2.47", **metadata: Any) -> Json:
    spec = {"containers": [{"name": "c", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | metadata, "spec": spec}


def deployment(name: str, **spec: Any) -> Json:
    labels = {"matchLabels": {"app": name}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "agnhost:2.47"}]}}
    meta = {"name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {"selector": labels, "template": template} | spec,
    }


def managers(obj: Json) -> dict[tuple[str, str, str], Json]:
    entries = obj["metadata"].get("managedFields", [])
    return {(each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"] for each in entries}


def causes(status: Json) -> list[tuple[str, str]]:
    return [(each["field"], each["message"]) for each in status["details"]["causes"]]


def test_an_apply_creates_merges_and_is_shared(api: Api) -> None:
    code, made = api.apply(f"{PODS}/created", pod("created"))
    assert code == 201
    assert made["spec"]["restartPolicy"] == "Always"
    fields = '{"f:spec":{"f:containers":{"k:{\\"name\\":\\"c\\"}":{".":{},"f:image":{},"f:name":{}}}}}'
    assert msgspec.json.encode(managers(made)["applier", "Apply", ""]).decode() == fields, "clients compare the text"
    code, again = api.apply(f"{PODS}/created", pod("created"))
    assert (code, again) == (200, made)
    _, shared = api.apply(f"{PODS}/created", pod("created"), "second")
    assert managers(shared)["second", "Apply", ""] == managers(shared)["applier", "Apply", ""]
    code, refused = api.apply(f"{PODS}/created", pod("created", "agnhost:2.53"), "second")
    assert (code, refused["reason"]) == (409, "Conflict")
    assert causes(refused) == [('.spec.containers[name="c"].image', 'conflict with "applier"')]
    assert refused["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    code, forced = api.apply(f"{PODS}/created", pod("created", "agnhost:2.53"), "second", force="true", dryRun="All")
    assert (code, forced["spec"]["containers"][0]["image"]) == (200, "agnhost:2.53")
    assert api.ask("GET", f"{PODS}/created")[1] == shared, "a dry run stores nothing"


@pytest.mark.parametrize(
    ("change", "params", "code", "message"),
    [
        ({}, {"fieldManager": ""}, 422, "fieldManager: Required value: is required for apply patch"),
        ({}, {"fieldManager": "x" * 129}, 422, "fieldManager: Too long: may not be more than 128 bytes"),
        ({}, {"fieldManager": "a\nb"}, 422, "invalid character U+000A (at position 1)"),
        ({"apiVersion": "apps/v1"}, {}, 400, "invalid object type: apps/v1, Kind=Pod"),
        ({"kind": ""}, {}, 400, "invalid object type: v1, Kind="),
        ({"metadata": {"name": "other"}}, {}, 400, "the name of the object (other) does not match the name on the URL"),
        ({"metadata": {"name": "x", "managedFields": []}}, {}, 400, "metadata.managedFields must be nil"),
        ({"spec": {"unknown": 1}}, {"fieldValidation": "Ignore"}, 400, ".spec.unknown: field not declared in schema"),
        (
            {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}},
            {},
            400,
            'typed patch object (/x; v1, Kind=Pod): .spec.containers: duplicate entries for key [name="c"]',
        ),
        ({"metadata": {"name": "x", "uid": "u"}}, {}, 409, "uid mismatch: the provided object specified uid u, and no"),
        (
            {"metadata": {"name": "x", "namespace": "other"}},
            {},
            400,
            "does not match the namespace sent on the request",
        ),
        ({"spec": {"containers": []}}, {}, 422, "spec.containers: Required value"),
    ],
)
def test_what_cannot_be_applied(api: Api, change: Json, params: dict[str, str], code: int, message: str) -> None:
    found = api.ask("PATCH", f"{PODS}/x", pod("x") | change, APPLY_PATCH, **{"fieldManager": "m"} | params)
    assert found[0] == code, found[1]
    assert message in found[1]["message"]


def test_the_preconditions_of_an_applied_object(api: Api) -> None:
    _, made = api.apply(f"{PODS}/precondition", pod("precondition"))
    for field, value in (("resourceVersion", "1"), ("uid", "another")):
        code, refused = api.apply(f"{PODS}/precondition", pod("precondition", **{field: value}))
        assert (code, refused["reason"]) == (409, "Conflict")
    kept = {name: made["metadata"][name] for name in ("resourceVersion", "uid")}
    assert api.apply(f"{PODS}/precondition", pod("precondition", labels={"a": "1"}, **kept))[0] == 200
    code, status = api.ask("PATCH", f"{PODS}/precondition", {}, MERGE_PATCH, force="true")
    assert (code, status["reason"]) == (422, "Invalid")
    assert "force: Forbidden: may not be specified for non-apply patch" in status["message"]


YAML = """# as people write it
apiVersion: v1
kind: Pod
metadata: {name: yaml}
spec:
  containers:
  - name: c
    image: agnhost:2.47
    image: agnhost:2.53
"""

TWICE = 'key "image" already set in map'


def test_yaml_with_a_key_that_stands_twice(api: Api) -> None:
    code, refused = api.apply(f"{PODS}/yaml", YAML, fieldValidation="Strict")
    assert code == 400
    said = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:"
    assert refused["message"] == f"{said}\n  line 9: {TWICE}"
    code, made = api.apply(f"{PODS}/yaml", YAML)
    assert (code, made["spec"]["containers"][0]["image"]) == (201, "agnhost:2.53")
    assert len(api.warnings) == 1
    containers = '"containers":[{"name":"c","image":"agnhost:2.53",}],'
    twice = '"metadata":{"name":"yaml","name":"yaml"}'
    as_json = f'{{"apiVersion":"v1","kind":"Pod",\n{twice},\n\t"spec":{{{containers}}},}}'
    assert 'line 2: key "name" already set in map' in str(api.apply(f"{PODS}/yaml", as_json, fieldValidation="Strict"))
    assert api.apply(f"{PODS}/yaml", as_json, fieldValidation="Ignore")[0] == 200
    assert not api.warnings
    code, refused = api.apply(f"{PODS}/yaml", "a: [")
    assert code == 400
    assert refused["message"].startswith("error decoding YAML: error converting YAML to JSON: yaml: line ")


def test_who_writes_is_its_field_manager_or_its_agent(api: Api) -> None:
    api.ask("POST", PODS, pod("written", labels={"a": "1"}), fieldManager="kubectl-create")
    path = f"{PODS}/written"
    api.ask("PATCH", path, {"metadata": {"labels": {"b": "1"}}}, MERGE_PATCH)
    api.ask("PATCH", path, [{"op": "add", "path": "/metadata/labels/c", "value": "1"}], JSON_PATCH, agent="\t json/2")
    api.ask("PATCH", path, {"metadata": {"labels": {"a": "2"}}}, STRATEGIC_MERGE_PATCH, agent="")
    api.ask("PATCH", f"{path}/status", {"status": {"phase": "Running"}}, MERGE_PATCH, agent="kubelet/v1")
    code, obj = api.ask("GET", path)
    assert code == 200
    found = {who: fields.get("f:metadata", {}).get("f:labels", {}).keys() for who, fields in managers(obj).items()}
    assert found == {
        ("kubectl-create", "Update", ""): set(),
        ("tester", "Update", ""): {"f:b"},
        ("json", "Update", ""): {"f:c"},
        ("unknown", "Update", ""): {"f:a"},
        ("kubelet", "Update", "status"): set(),
    }
    assert managers(obj)["kubelet", "Update", "status"] == {"f:status": {"f:phase": {}}}
    obj["metadata"]["labels"]["d"] = "1"
    del obj["metadata"]["managedFields"]
    _, put = api.ask("PUT", path, obj, agent="putter")
    assert managers(put).keys() == found.keys() | {("putter", "Update", "")}, "who does not know them takes none away"


@pytest.mark.parametrize("empty", [[], [{}]])
def test_managed_fields_can_be_forgotten_and_begin_with_the_next_apply(api: Api, empty: Json) -> None:
    name = f"forgotten-{len(empty)}"
    api.ask("POST", PODS, pod(name, labels={"a": "1"}))
    _, forgotten = api.ask("PATCH", f"{PODS}/{name}", {"metadata": {"managedFields": empty}}, MERGE_PATCH)
    assert managers(forgotten) == {}
    _, changed = api.ask("PATCH", f"{PODS}/{name}", {"metadata": {"labels": {"b": "1"}}}, MERGE_PATCH)
    assert managers(changed) == {}
    code, refused = api.apply(f"{PODS}/{name}", pod(name, labels={"a": "2"}))
    assert code == 409
    assert causes(refused) == [(".metadata.labels.a", 'conflict with "before-first-apply" using v1')]


def test_a_client_may_rewrite_managed_fields(api: Api) -> None:
    """As kubectl does that goes over to server-side apply (client-go's csaupgrade)."""
    _, made = api.ask("POST", PODS, pod("rewritten"), fieldManager="kubectl-client-side-apply")
    entry = made["metadata"]["managedFields"][0] | {"manager": "kubectl", "operation": "Apply"}
    version = made["metadata"]["resourceVersion"]
    change = [
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    code, rewritten = api.ask("PATCH", f"{PODS}/rewritten", change, JSON_PATCH)
    assert code == 200
    assert managers(rewritten).keys() == {("kubectl", "Apply", "")}
    nonsense = {"metadata": {"managedFields": [{"operation": "Nothing"}]}}
    assert managers(api.ask("PATCH", f"{PODS}/rewritten", nonsense, MERGE_PATCH)[1]) == managers(rewritten)
    of_status = {"metadata": {"managedFields": []}, "status": {"message": "m"}}
    _, kept = api.ask("PATCH", f"{PODS}/rewritten/status", of_status, MERGE_PATCH)
    assert managers(kept).keys() == {("kubectl", "Apply", ""), ("tester", "Update", "status")}


def test_the_status_is_applied_by_its_own_door(api: Api) -> None:
    api.apply(f"{PODS}/status", pod("status"))
    conditions = {"conditions": [{"type": "Mine", "status": "True"}]}
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "status"}, "status": conditions}
    code, obj = api.apply(f"{PODS}/status", bare, "other")
    assert code == 200
    assert ("other", "Apply", "") not in managers(obj)
    assert "conditions" not in obj["status"]
    code, obj = api.apply(f"{PODS}/status/status", bare, "other")
    assert code == 200
    assert obj["status"]["conditions"][0]["type"] == "Mine"
    mine: Json = {".": {}, "f:status": {}, "f:type": {}}
    assert managers(obj)["other", "Apply", "status"] == {"f:status": {"f:conditions": {'k:{"type":"Mine"}': mine}}}
    code, obj = api.apply(f"{PODS}/status/status", bare | {"status": {}}, "other")
    assert code == 200
    assert not obj["status"].get("conditions")
    assert api.apply(f"{PODS}/nothing/status", bare | {"metadata": {"name": "nothing"}})[0] == 404


def test_replicas_have_one_owner_by_whichever_door(api: Api) -> None:
    path = f"{DEPLOYMENTS}/scaled"
    api.apply(path, deployment("scaled", replicas=1))
    api.ask("PATCH", f"{path}/scale", {"spec": {"replicas": 5}}, MERGE_PATCH, fieldManager="scaler")
    code, refused = api.apply(path, deployment("scaled", replicas=1))
    assert code == 409
    assert causes(refused) == [(".spec.replicas", 'conflict with "scaler" with subresource "scale" using apps/v1')]
    api.apply(path, deployment("scaled", replicas=1), force="true")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "scaled"}, "spec": {"replicas": 7}}
    code, refused = api.apply(f"{path}/scale", scale, "by-scale")
    assert (code, causes(refused)) == (409, [(".spec.replicas", 'conflict with "applier"')])
    code, answer = api.apply(f"{path}/scale", scale, "by-scale", force="true")
    assert (code, answer["kind"], answer["spec"]["replicas"]) == (200, "Scale", 7)
    _, obj = api.ask("GET", path)
    assert managers(obj)["by-scale", "Apply", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in managers(obj)["applier", "Apply", ""]["f:spec"]
    assert obj["metadata"]["generation"] == 4
    assert api.apply(f"{path}/scale", scale | {"spec": {"replicas": -1}}, "by-scale")[0] == 422
    assert api.apply(f"{path}/scale", scale | {"spec": {"size": 1}}, "by-scale")[0] == 400


def test_a_field_goes_with_its_last_owner(api: Api) -> None:
    path = f"{DEPLOYMENTS}/owned"
    for manager in ("first", "second"):
        api.apply(path, deployment("owned", replicas=3, minReadySeconds=1), manager)
    _, left = api.apply(path, deployment("owned"), "first")
    assert (left["spec"]["replicas"], left["spec"]["minReadySeconds"]) == (3, 1)
    _, gone = api.apply(path, deployment("owned"), "second")
    assert (gone["spec"]["replicas"], gone["spec"].get("minReadySeconds")) == (1, None)


def test_two_versions_of_a_kind_have_one_list_of_managers(api: Api) -> None:
    involved = {"involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}}
    core = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "both"}, "message": "m", "reason": "r"} | involved
    assert api.apply("/api/v1/namespaces/default/events/both", core)[0] == 201
    new = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "both"}, "note": "n"}
    new |= {"eventTime": "2024-01-01T00:00:00.000000Z"}
    path = "/apis/events.k8s.io/v1/namespaces/default/events/both"
    code, refused = api.apply(path, new, "other", dryRun="All")
    assert code == 409, refused
    assert causes(refused) == [(".message", 'conflict with "applier"')]
    code, obj = api.apply(path, new, "other", force="true", dryRun="All")
    assert (code, obj["note"]) == (200, "n")


def test_what_the_server_writes_in_another_form_is_no_change_either(api: Api) -> None:
    path = "/api/v1/namespaces/default/secrets/in-clear"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "in-clear"}, "stringData": {"a": "b"}}
    _, made = api.apply(path, secret)
    assert made["data"] == {"a": "Yg=="}
    long_ago = made["metadata"]["managedFields"][0] | {"time": "2020-01-01T00:00:00Z"}
    change = {"metadata": {"managedFields": [long_ago], "labels": {"a": "1"}}}
    _, old = api.ask("PATCH", path, change, MERGE_PATCH)
    assert old["metadata"]["managedFields"][0] == long_ago
    assert api.apply(path, secret)[1] == old


def test_an_object_that_is_too_large_loses_its_managed_fields_and_not_its_content(api: Api) -> None:
    data = {f"key-{number:06}": "x" * 40 for number in range(22_000)}
    made = {"metadata": {"name": "large"}, "data": data}
    code, obj = api.ask("POST", "/api/v1/namespaces/default/configmaps", made)
    assert code == 201, obj["message"]
    assert managers(obj) == {}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "larger"}, "data": data}
    assert api.apply("/api/v1/namespaces/default/configmaps/larger", config)[0] == 413


@pytest.mark.parametrize("resource", FUZZED, ids=lambda each: each.plural)
def test_every_kind_is_applied(api: Api, resource: Resource[Any]) -> None:
    config = {"apiVersion": resource.api_version, "kind": resource.kind} | MANIFESTS[resource.plural]
    config["metadata"] = {"name": "fuzz", "labels": {"applied": "1"}}
    path = resource.object_path("default", "fuzz")
    code, made = api.apply(path, config)
    assert code == 201, made["message"]
    assert managers(made)["applier", "Apply", ""]["f:metadata"] == {"f:labels": {"f:applied": {}}}
    assert api.apply(path, config)[1] == made
    _, changed = api.ask("PATCH", path, {"metadata": {"labels": {"applied": "2", "other": "1"}}}, MERGE_PATCH)
    assert managers(changed)["tester", "Update", ""]["f:metadata"] == {"f:labels": {"f:applied": {}, "f:other": {}}}
    code, refused = api.apply(path, config)
    assert (code, causes(refused)) == (
        409,
        [(".metadata.labels.applied", f'conflict with "tester" using {resource.api_version}')],
    )
    _, forced = api.apply(path, config, force="true")
    assert forced["metadata"]["labels"] | {"applied": "1", "other": "1"} == forced["metadata"]["labels"]
    assert forced.get("spec") == made.get("spec")
