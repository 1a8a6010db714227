"""APIServices: what they may be, which there are, and what is told of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.registration_types import ServiceReference
from netlab.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS
from netlab.api.server.aggregation import availability, documents, identity, registration
from netlab.api.server.identity import User
from netlab.api.server.registry.catalog import Delegation
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused, update
from tests.unit.api.definitions import definition

_SERVICES: Any = APISERVICES


def _registered(**spec: Any) -> dict[str, Any]:
    fields = {"group": "x.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10} | spec
    name = f"{fields['version']}.{fields['group']}"
    return {"metadata": {"name": name}, "spec": {key: value for key, value in fields.items() if value is not None}}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (
            _registered() | {"metadata": {"name": "v1.other"}},
            'must be `spec.version+"."+spec.group`: "v1.x.example.com"',
        ),
        (_registered(group="", version="v2"), "only v1 may have an empty group"),
        (_registered(group="-"), "spec.group: Invalid value"),
        (_registered(version="1"), "spec.version: Invalid value"),
        (_registered(groupPriorityMinimum=0), "must be positive and less than 20000"),
        (_registered(versionPriority=1001), "must be positive and less than 1000"),
        (_registered(caBundle="eA=="), "local APIServices may not have a caBundle"),
        (_registered(insecureSkipTLSVerify=True), "local APIServices may not have insecureSkipTLSVerify"),
        (_registered(service={}), "spec.service.namespace: Required value"),
        (_registered(service={"namespace": "a", "name": "b", "port": 0}), "must be between 1 and 65535"),
        (
            _registered(service={"namespace": "a", "name": "b"}, caBundle="eA==", insecureSkipTLSVerify=True),
            "may not be true if caBundle is present",
        ),
    ],
)
def test_what_is_none(registry: Registry, obj: dict[str, Any], said: str) -> None:
    with refused(422, said):
        create(registry, APISERVICES, obj)


def test_defaults_and_what_is_told_at_once(registry: Registry) -> None:
    made = create(registry, APISERVICES, _registered(service={"namespace": "a", "name": "b"}))
    assert (made["spec"]["service"]["port"], "status" in made) == (443, False)
    made = create(registry, APISERVICES, _registered(version="v2"))
    (condition,) = made["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")
    made["status"]["conditions"] = [{"type": "Available", "status": "Maybe"}]
    with refused(422, 'status.conditions[0].status: Unsupported value: "Maybe"'):
        update(registry, APISERVICES, made, "status")


def _names(registry: Registry) -> set[str]:
    return {stored.name for stored in registry.store.all(_SERVICES)}


def test_what_a_server_has_is_registered(registry: Registry) -> None:
    registration.reconcile(registry, starts=True)
    assert {"v1.", "v1.apps", "v1.events.k8s.io"} <= _names(registry)
    assert not any(name.endswith("apiregistration.k8s.io") for name in _names(registry))
    # Who deletes one of the built-in versions is let, until the server starts again.
    registry.delete(_SERVICES, "", "v1.batch")
    create(registry, CUSTOMRESOURCEDEFINITIONS, made := definition())
    name = f"{made['spec']['versions'][0]['name']}.{made['spec']['group']}"
    registration.reconcile(registry, starts=False)
    assert (name in _names(registry), "v1.batch" in _names(registry)) == (True, False)
    assert registry.get(_SERVICES, "", name).decode()["spec"]["groupPriorityMinimum"] == 1000
    registry.delete(_SERVICES, "", name)
    registration.reconcile(registry, starts=False)
    assert name in _names(registry)
    registry.delete(CUSTOMRESOURCEDEFINITIONS, "", made["metadata"]["name"])
    registry.definitions.clean_up()
    create(registry, APISERVICES, _registered())
    registration.reconcile(registry, starts=True)
    assert (name in _names(registry), "v1.batch" in _names(registry)) == (False, True)
    assert "v1.x.example.com" in _names(registry)  # nobody's but the user's


_NAMED = ServiceReference(namespace="a", name="b", port=443)
_PORTS: dict[str, Any] = {"ports": [{"port": 443, "name": "https"}]}
_READY: dict[str, Any] = {"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "https", "port": 8443}]}


@pytest.mark.parametrize(
    ("service", "slices", "reason"),
    [
        (None, [], "ServiceNotFound"),
        ({"ports": [{"port": 80}]}, [_READY], "ServicePortError"),
        (_PORTS, [], "EndpointsNotFound"),
        (_PORTS, [_READY | {"endpoints": []}], "MissingEndpoints"),
        (
            _PORTS,
            [_READY | {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}]}],
            "MissingEndpoints",
        ),
        (_PORTS, [_READY | {"ports": [{"name": "http", "port": 80}]}], "MissingEndpoints"),
        (_PORTS, [_READY | {"endpoints": []}, _READY], None),
        ({"type": "ExternalName", "externalName": "x"}, [], None),
    ],
)
def test_what_objects_tell(service: dict[str, Any] | None, slices: list[dict[str, Any]], reason: str | None) -> None:
    typed = None if service is None else msgspec.convert({"spec": {"type": "ClusterIP"} | service}, Service)
    listed = [msgspec.convert({"metadata": {}, "addressType": "IPv4"} | each, EndpointSlice) for each in slices]
    found = availability.problem(_NAMED, typed, listed)
    assert (found and found.reason) == reason
    assert found is None or "service/b" in found.message


def test_a_list_of_resources_in_the_form_of_aggregated_discovery() -> None:
    flunder = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get"]}
    status = {"name": "flunders/status", "kind": "Flunder", "verbs": ["update"]}
    scale = {"name": "flunders/scale", "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]}
    raw = msgspec.json.encode({"resources": [status, flunder | {"shortNames": ["fl"]}, scale, {"name": "x/y"}]})
    kind = {"group": "x.example.com", "version": "v1", "kind": "Flunder"}
    assert documents.resources(raw, "x.example.com", "v1") == (
        {
            "resource": "flunders",
            "responseKind": kind,
            "scope": "Namespaced",
            "singularResource": "flunder",
            "verbs": ["get"],
            "shortNames": ["fl"],
            "subresources": [
                {"subresource": "status", "responseKind": kind, "verbs": ["update"]},
                {
                    "subresource": "scale",
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                    "verbs": ["get"],
                },
            ],
        },
    )


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"resources": [{"name": 1}]}', b"\xff", b'{"paths": 7}', b'{"paths":{}}']
)
def test_an_answer_that_makes_no_sense(raw: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeError)):
        documents.resources(raw, "g", "v1")
    if b"paths" not in raw:
        with pytest.raises((msgspec.MsgspecError, ValueError)):
            documents.digest(raw, "apis/g/v1")
        with pytest.raises((msgspec.MsgspecError, ValueError)):
            documents.swagger(raw, "apis/g/v1")
    elif b"7" not in raw:
        assert documents.digest(raw, "apis/g/v1") == ""


def test_a_document_of_openapi_2_is_cut_to_the_version() -> None:
    paths: dict[str, Any] = {path: {} for path in ("/apis/g/v1", "/apis/g/v1/x", "/apis/g/v11/x", "/apis/", "/version")}
    raw = msgspec.json.encode({"swagger": "2.0", "paths": paths, "definitions": {"X": {"type": "object"}}})
    found = documents.swagger(raw, "apis/g/v1")
    assert (set(found["paths"]), found["definitions"]) == ({"/apis/g/v1", "/apis/g/v1/x"}, {"X": {"type": "object"}})


def test_who_asks_is_in_headers() -> None:
    user = User("ann", ("a", "b"), "7", {"authentication.kubernetes.io/pod-name": ("p", "q")})
    assert identity.headers(user) == [
        (b"X-Remote-User", b"ann"),
        (b"X-Remote-Uid", b"7"),
        (b"X-Remote-Group", b"a"),
        (b"X-Remote-Group", b"b"),
        (b"X-Remote-Extra-authentication.kubernetes.io%2Fpod-name", b"p"),
        (b"X-Remote-Extra-authentication.kubernetes.io%2Fpod-name", b"q"),
    ]
    for user in (User("a\r\nX-Remote-Group: system:masters"), User("a", ("b\0",)), User("a", (), "", {"k": ("\n",)})):
        with refused(400, "characters that no header has"):
            identity.headers(user)


def test_the_order_of_groups_and_versions(registry: Registry) -> None:
    catalog, core = registry.catalog, registry.catalog.groups()
    create(registry, CUSTOMRESOURCEDEFINITIONS, made := definition())
    custom = made["spec"]["group"]
    for group, version, priority in (("a.io", "v1", 500), ("b.io", "v1", 2000), ("b.io", "v2", 20), (custom, "v9", 50)):
        catalog.delegate(Delegation(group, version, priority, priority))
    assert catalog.groups() == [*core, "b.io", custom, "a.io"]
    assert catalog.versions("b.io") == ["v1", "v2"]
    assert catalog.versions(custom)[-1] == "v9"
    before = catalog.changes
    catalog.take_back(Delegation("a.io", "v1", 0, 0))
    assert (catalog.groups(), catalog.changes) == ([*core, "b.io", custom], before + 1)
