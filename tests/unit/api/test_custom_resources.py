"""Objects of custom resources in the registry, on both stores, and what becomes of them when definitions change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from netlab.api.server.objects import field_selectors, versions
from netlab.api.server.objects.definitions import CLEANUP
from netlab.api.server.objects.schema import FieldValidation, Mode
from netlab.api.server.registry import definitions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.registry.subresources import scale_of, scaled
from netlab.api.server.storage import snapshots
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.sqlite import Sqlite, restore
from netlab.api.server.storage.watch import Selection
from tests.unit.api.cluster import create, opened, refused, update
from tests.unit.api.definitions import ROOT, SCALE, definition, version

_DEFINITIONS: Resource[Any] = CUSTOMRESOURCEDEFINITIONS
_PARTS = {"status": {}, "scale": SCALE}


def _define(registry: Registry, manifest: dict[str, Any] | None = None) -> Any:
    return create(registry, _DEFINITIONS, manifest or definition("Box", version(subresources=_PARTS)))


def _find(registry: Registry, name: str = "v1", plural: str = "boxes") -> Resource[Any]:
    found = registry.catalog.find("example.com", name, plural)
    assert found is not None
    return found


def _box(name: str = "b", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"size": 3} | spec}


def _status_of(registry: Registry, name: str = "boxes.example.com") -> dict[str, tuple[str, str]]:
    conditions = registry.get(_DEFINITIONS, "", name).decode()["status"]["conditions"]
    return {each["type"]: (each["status"], each["reason"]) for each in conditions}


def _clean_up(registry: Registry) -> None:
    while registry.definitions.clean_up():
        pass


def test_a_definition_is_served_at_once(registry: Registry) -> None:
    assert registry.catalog.find("example.com", "v1", "boxes") is None
    made = _define(registry)
    assert made["status"]["acceptedNames"] == {
        "plural": "boxes",
        "singular": "box",
        "kind": "Box",
        "listKind": "BoxList",
    }
    assert made["status"]["storedVersions"] == ["v1"]
    assert _status_of(registry) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    box = create(registry, _find(registry), _box())
    assert (box["apiVersion"], box["kind"], box["metadata"]["generation"]) == ("example.com/v1", "Box", 1)
    assert box["spec"] == {"size": 3, "color": "red"}


def test_objects_are_checked(registry: Registry) -> None:
    _define(registry)
    resource = _find(registry)
    with refused(422, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"):
        create(registry, resource, _box(size=10))
    with refused(400, 'strict decoding error: unknown field "spec.weight"'):
        create(registry, resource, _box(weight=1))
    with refused(400, 'unknown field "metadata.colour"'):
        create(registry, resource, _box() | {"metadata": {"name": "b", "colour": 1}})
    with refused(400, "does not match the expected kind"):
        create(registry, resource, _box() | {"kind": "Tin"})
    draft = registry.draft_of_new(resource, "default", _box(weight=1), FieldValidation(Mode.WARN))
    assert draft.warnings == ('unknown field "spec.weight"',)
    assert "weight" not in draft.obj["spec"]


def test_a_subresource_is_written_apart(registry: Registry) -> None:
    _define(registry)
    resource = _find(registry)
    box = create(registry, resource, _box() | {"status": {"replicas": 7}})
    assert "status" not in box
    box = update(registry, resource, box | {"status": {"replicas": 2}, "spec": {"size": 9}}, "status")
    assert (box["status"], box["spec"]["size"], box["metadata"]["generation"]) == ({"replicas": 2}, 3, 1)
    box = update(registry, resource, box | {"spec": {"size": 4}, "status": {}})
    assert (box["status"], box["metadata"]["generation"]) == ({"replicas": 2}, 2)
    with refused(422, "status.replicas in body must be of type integer"):
        update(registry, resource, box | {"status": {"replicas": "2"}}, "status")
    assert "status" not in update(registry, resource, {k: v for k, v in box.items() if k != "status"}, "status")


def test_without_a_subresource_the_status_is_as_the_rest(registry: Registry) -> None:
    _define(registry, definition())
    resource = _find(registry)
    box = create(registry, resource, _box() | {"status": {"replicas": 7}})
    assert box["status"] == {"replicas": 7}
    box = update(registry, resource, box | {"status": {"replicas": 8}})
    assert (box["status"], box["metadata"]["generation"]) == ({"replicas": 8}, 2)
    box["metadata"]["labels"] = {"a": "b"}
    assert update(registry, resource, box)["metadata"]["generation"] == 2


def test_a_scale_has_its_paths(registry: Registry) -> None:
    _define(registry)
    resource: Any = _find(registry)
    box = _box(replicas=2) | {"status": {"replicas": 1, "selector": "a=b"}}
    scale = scale_of(box, resource.scale)
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    changed = scaled(box, scale | {"spec": {"replicas": 5}}, resource.scale)
    assert changed["spec"] == {"size": 3, "replicas": 5}
    assert box["spec"]["replicas"] == 2
    with refused(500, 'the spec replicas field ".spec.replicas" does not exist'):
        scale_of(_box(), resource.scale)


def test_several_versions(registry: Registry) -> None:
    newer = copy.deepcopy(ROOT)
    newer["properties"]["spec"]["properties"]["weight"] = {"type": "integer", "default": 1}
    second = version("v2", storage=False, schema={"openAPIV3Schema": newer})
    _define(registry, definition("Box", version(), second))
    old, new = _find(registry), _find(registry, "v2")
    made = create(registry, new, _box(weight=5))
    # What the version that is stored has no field for is lost, as with a conversion of None.
    assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"size": 3, "color": "red"})
    stored = registry.get(old, "default", "b")
    assert versions.from_storage(new, stored.decode())["apiVersion"] == "example.com/v2"
    assert registry.get(new, "default", "b") is stored


def test_the_version_that_is_stored_changes(registry: Registry) -> None:
    made = _define(registry, definition("Box", version(), version("v2", storage=False)))
    create(registry, _find(registry), _box())
    made["spec"]["versions"][0]["storage"], made["spec"]["versions"][1]["storage"] = False, True
    made = update(registry, _DEFINITIONS, made)
    assert made["status"]["storedVersions"] == ["v1", "v2"]
    resource = _find(registry)
    stored = registry.get(resource, "default", "b")
    assert stored.decode()["apiVersion"] == "example.com/v1"
    # An update without a change brings it to the new one.
    box = versions.from_storage(resource, stored.decode())
    assert update(registry, resource, box)["apiVersion"] == "example.com/v2"
    box = versions.from_storage(resource, registry.get(resource, "default", "b").decode())
    assert box["apiVersion"] == "example.com/v1"
    made = registry.get(_DEFINITIONS, "", "boxes.example.com").decode()
    made["status"]["storedVersions"] = ["v2"]
    made = update(registry, _DEFINITIONS, made, "status")
    made["spec"]["versions"] = made["spec"]["versions"][1:]
    update(registry, _DEFINITIONS, made)
    assert registry.catalog.find("example.com", "v1", "boxes") is None


def test_a_stricter_schema_lets_be_what_is_there(registry: Registry) -> None:
    made = _define(registry)
    create(registry, _find(registry), _box(size=9))
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["size"]["maximum"] = 5
    schema["lid"] = {"type": "string", "default": "flat"}
    update(registry, _DEFINITIONS, made)
    resource = _find(registry)
    box = versions.from_storage(resource, registry.get(resource, "default", "b").decode())
    assert box["spec"] == {"size": 9, "color": "red", "lid": "flat"}
    box["metadata"]["labels"] = {"a": "b"}
    box = update(registry, resource, box)
    with refused(422, "spec.size in body should be less than or equal to 5"):
        update(registry, resource, box | {"spec": {"size": 8}})


def test_fields_that_select(registry: Registry) -> None:
    fields = [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]
    _define(registry, definition("Box", version(selectableFields=fields)))
    resource = _find(registry)
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        create(registry, resource, _box(name, color=color))

    def names(text: str) -> list[str]:
        selection = Selection("default", fields=field_selectors.parse(text, resource))
        return [each.name for each in registry.list(resource, selection)]

    assert names("spec.color=red") == ["a", "c"]
    assert names("spec.color!=red,spec.size=3") == ["b"]
    assert names("metadata.name=c") == ["c"]


def test_names_that_are_given_up(registry: Registry) -> None:
    _define(registry, definition("Box", version(), shortNames=["b"]))
    _define(registry, definition("Tin", version(), plural="tins", shortNames=["b"]))
    assert _status_of(registry, "tins.example.com")["NamesAccepted"] == ("False", "ShortNamesConflict")
    assert registry.catalog.find("example.com", "v1", "tins") is None
    made = registry.get(_DEFINITIONS, "", "boxes.example.com").decode()
    del made["spec"]["names"]["shortNames"]
    update(registry, _DEFINITIONS, made)
    assert _status_of(registry, "tins.example.com")["Established"][0] == "True"
    assert _find(registry, plural="tins").short_names == ("b",)


def test_definitions_are_not_without_number(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "MOST", 1)
    made = _define(registry)
    with refused(403, "a cluster has at most 1 definitions"):
        _define(registry, definition("Tin", version()))
    update(registry, _DEFINITIONS, made | {"metadata": made["metadata"] | {"labels": {"a": "b"}}})


def test_names_of_the_table_are_in_use(registry: Registry) -> None:
    manifest = definition("Other", version(), group="networking.k8s.io", plural="ingresses")
    manifest["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    _define(registry, manifest)
    assert _status_of(registry, "ingresses.networking.k8s.io")["NamesAccepted"] == ("False", "PluralConflict")


def test_a_kind_may_be_called_as_one_of_another_group(registry: Registry) -> None:
    _define(registry, definition("Service", version(), plural="services"))
    resource = _find(registry, plural="services")
    # The names of core/v1 Services are stricter.
    made = create(registry, resource, _box("1.2"))
    assert (resource.collection, made["metadata"]["name"]) == ("services.example.com", "1.2")


def test_a_definition_takes_its_objects_with_it(registry: Registry) -> None:
    _define(registry)
    resource = _find(registry)
    for number in range(3):
        create(registry, resource, _box(f"b{number}"))
    held = create(registry, resource, {"metadata": {"name": "held", "finalizers": ["example.com/x"]}, **_spec()})
    outcome, gone = registry.delete(_DEFINITIONS, "", "boxes.example.com")
    assert not gone
    marked = msgspec.json.decode(outcome.raw)
    assert marked["metadata"]["finalizers"] == [CLEANUP]
    assert _status_of(registry)["Terminating"] == ("True", "InstanceDeletionPending")
    with refused(405, "create not allowed while custom resource definition is terminating"):
        create(registry, _find(registry), _box("late"))
    _clean_up(registry)
    assert _status_of(registry)["Terminating"] == ("True", "InstanceDeletionInProgress")
    assert [each.name for each in registry.store.all(resource)] == ["held"]
    held = registry.get(resource, "default", "held").decode()
    held["metadata"]["finalizers"] = []
    update(registry, _find(registry), held)
    _clean_up(registry)
    assert registry.store.get(_DEFINITIONS, "", "boxes.example.com") is None
    assert registry.catalog.find("example.com", "v1", "boxes") is None
    _define(registry)
    assert registry.store.count(_find(registry)) == 0


def _spec() -> dict[str, Any]:
    return {"spec": {"size": 1}}


def test_readers_come_back_when_objects_look_different(registry: Registry) -> None:
    _define(registry)
    hub, name = registry.store.hub, "boxes.example.com"

    def changes_end_it(change: Callable[[], Any]) -> bool:
        watch = hub.watch_from_now(name, Selection())
        change()
        return watch.closed

    # Nobody need come back for that: they hear of each object.
    assert not changes_end_it(lambda: registry.delete(_DEFINITIONS, "", name))
    assert changes_end_it(lambda: _clean_up(registry))
    made = _define(registry)
    made["spec"]["versions"][0]["additionalPrinterColumns"] = [
        {"name": "S", "type": "integer", "jsonPath": ".spec.size"}
    ]
    assert changes_end_it(lambda: update(registry, _DEFINITIONS, made))
    made = registry.get(_DEFINITIONS, "", name).decode()
    made["metadata"]["labels"] = {"a": "b"}
    assert not changes_end_it(lambda: update(registry, _DEFINITIONS, made))


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_restart(backend: Callable[[], Backend], is_deleted: bool) -> None:
    with opened(backend) as registry:
        _define(registry)
        _define(registry, definition("Cube", version(), scope="Cluster"))
        create(registry, _find(registry), _box())
        create(registry, _find(registry, plural="cubees"), _box("c"))
        if is_deleted:
            registry.delete(_DEFINITIONS, "", "boxes.example.com")
    with opened(backend) as registry:
        resource = _find(registry)
        assert registry.get(resource, "default", "b").decode()["spec"]["size"] == 3
        assert registry.get(_find(registry, plural="cubees"), "", "c").namespace == ""
        if is_deleted:
            _clean_up(registry)
            assert registry.store.count(resource) == 0
            assert registry.store.get(_DEFINITIONS, "", "boxes.example.com") is None


def test_a_snapshot_has_them(tmp_path: Path) -> None:
    long = "kinds-with-a-name-that-is-longer-than-what-a-digest-takes-as-its-key"[:63]
    with opened(tmp_path / "one.db") as registry:
        _define(registry)
        _define(registry, definition("Long", version(), plural=long))
        create(registry, _find(registry), _box())
        create(registry, _find(registry, plural=long), _box())
        snapshots.write(tmp_path / "file", snapshots.lines(registry.store.revision, registry.store.contents()))
    restore(tmp_path / "two.db", snapshots.read(tmp_path / "file"))
    with opened(lambda: Sqlite(tmp_path / "two.db")) as registry:
        assert registry.get(_find(registry), "default", "b").decode()["kind"] == "Box"
        assert registry.store.count(_find(registry, plural=long)) == 1
