"""CustomResourceDefinitions: what is refused of them, what the server says of them, and what they define."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from netlab.api.server.objects import definitions
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import paths
from netlab.api.server.objects.validation.definitions import check
from tests.unit.api.definitions import SCALE, STATUS, definition, resources, version

_APPROVED = {"api-approved.kubernetes.io": "https://example.com/1"}
_COLUMN = {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}

NOW = 1_700_000_000.0


def _with(manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return manifest | {"metadata": manifest["metadata"] | metadata}


@pytest.mark.parametrize(
    ("manifest", "field", "text"),
    [
        (_with(definition(), name="box.example.com"), "metadata.name", "must be spec.names.plural+"),
        (definition(group="example"), "spec.group", "should be a domain with at least one dot"),
        (definition(group=""), "spec.group", "Required value"),
        (definition(group="a.k8s.io"), "metadata.annotations[api-approved.kubernetes.io]", "protected groups must"),
        (
            _with(definition(group="k8s.io"), annotations={"api-approved.kubernetes.io": "yes"}),
            "metadata.annotations[api-approved.kubernetes.io]",
            "with either a URL or a reason",
        ),
        (definition(scope="Global"), "spec.scope", 'supported values: "Cluster", "Namespaced"'),
        (definition(plural="Boxes"), "spec.names.plural", "a DNS-1035 label"),
        (definition("_"), "spec.names.kind", "may have mixed case"),
        (definition(listKind="Box"), "spec.names.listKind", "kind and listKind may not be the same"),
        (definition(shortNames=["B"]), "spec.names.shortNames[0]", "a DNS-1035 label"),
        (
            definition("Box", version(), version("v2")),
            "spec.versions",
            "must have exactly one version marked as storage version",
        ),
        (
            definition("Box", version(), version(storage=False)),
            "spec.versions",
            "must contain unique version names",
        ),
        (definition("Box", version("2")), "spec.versions[0].name", "a DNS-1035 label"),
        (definition("Box", version(schema={})), "spec.versions[0].schema.openAPIV3Schema", "Required value"),
        (
            definition("Box", version(deprecationWarning="x")),
            "spec.versions[0].deprecationWarning",
            "can only be set for deprecated versions",
        ),
        (
            definition("Box", version(additionalPrinterColumns=[_COLUMN | {"type": "text"}])),
            "spec.versions[0].additionalPrinterColumns[0].type",
            "must be one of boolean,date,integer,number,string",
        ),
        (
            definition("Box", version(additionalPrinterColumns=[_COLUMN | {"jsonPath": "spec"}])),
            "spec.versions[0].additionalPrinterColumns[0].JSONPath",
            "must be a simple json path starting with .",
        ),
        (
            definition("Box", version(subresources={"scale": SCALE | {"specReplicasPath": ".status.x"}})),
            "spec.versions[0].subresources.scale.specReplicasPath",
            "should be a json path under .spec",
        ),
        (
            definition("Box", version(selectableFields=[{"jsonPath": ".spec.nothing"}])),
            "spec.versions[0].selectableFields[0].jsonPath",
            "must point to a field of type string, boolean or integer",
        ),
        (
            definition("Box", version(selectableFields=[{"jsonPath": ".metadata.name"}])),
            "spec.versions[0].selectableFields[0].jsonPath",
            "must not point to fields in metadata",
        ),
        (
            definition("Box", version(selectableFields=[{"jsonPath": ".spec.size"}] * 2)),
            "spec.versions[0].selectableFields[1].jsonPath",
            "Duplicate value",
        ),
    ],
)
def test_definitions_that_are_refused(manifest: dict[str, Any], field: str, text: str) -> None:
    problems = Problems()
    definitions.default(manifest)
    check(manifest, None, problems)
    assert any(each.field == field and text in each.message for each in problems), problems


@pytest.mark.parametrize(
    ("conversion", "versions", "refused"),
    [
        ({"strategy": "None"}, [version(), version("v2", storage=False)], False),
        ({"strategy": "Webhook"}, [version()], False),
        ({"strategy": "Webhook"}, [version(), version("v2", storage=False, served=False)], False),
        ({"strategy": "Webhook"}, [version(), version("v2", storage=False)], True),
        ({"strategy": "Magic"}, [version()], True),
        ({"strategy": "None", "webhook": {}}, [version()], True),
    ],
)
def test_webhooks_are_not_called(conversion: dict[str, Any], versions: list[dict[str, Any]], refused: bool) -> None:
    manifest = definition("Box", *versions)
    manifest["spec"]["conversion"] = conversion
    problems = Problems()
    definitions.default(manifest)
    check(manifest, None, problems)
    assert bool(problems) is refused
    calls = conversion["strategy"] == "Webhook"
    assert any("calls no webhooks" in each for each in definitions.warnings(manifest)) is calls


def test_what_never_changes_of_a_definition() -> None:
    old, new = definition(), definition("Crate", plural="boxes", scope="Cluster")
    resources(old)
    definitions.default(new)
    problems = Problems()
    check(new, old, problems)
    assert {each.field for each in problems} == {"spec.scope", "spec.names.kind"}
    problems.clear()
    new["spec"]["group"] = new["spec"]["names"]["plural"] = "others"
    check(new, old, problems)
    assert {"spec.group", "spec.names.plural"} <= {each.field for each in problems}


def test_a_version_that_was_stored_stays() -> None:
    old = definition("Box", version(), version("v2", storage=False))
    definitions.default(old)
    new = definition("Box", version("v2")) | {"status": old["status"]}
    definitions.default(new)
    assert new["status"]["storedVersions"] == ["v1", "v2"]
    problems = Problems()
    check(new, old, problems)
    assert "v1 was previously a storage version" in problems[0].message


def test_an_approval_that_was_missing_may_stay_so() -> None:
    old = definition(group="a.k8s.io")
    definitions.default(old)
    problems = Problems()
    check(old, old, problems)
    check(_with(old, annotations=_APPROVED), old, problems)
    assert not problems


def test_names_in_use() -> None:
    first, second = definition("Box", shortNames=["b"]), definition("Tin", singular="box", shortNames=["t", "b"])
    used = definitions.Names()
    for each in (first, second):
        definitions.default(each)
    definitions.accept_names(first, used)
    used.add(first["status"]["acceptedNames"])
    definitions.accept_names(second, used)
    assert definitions.is_served(first)
    assert not definitions.is_served(second)
    assert definitions.resources_of(second) == []
    [accepted, established] = second["status"]["conditions"]
    assert (accepted["reason"], accepted["message"]) == ("ShortNamesConflict", '"b" is already in use')
    assert (established["status"], established["reason"]) == ("False", "NotAccepted")
    assert second["status"]["acceptedNames"] == {"plural": "tines", "kind": "Tin", "listKind": "TinList"}
    definitions.accept_names(second, definitions.Names())
    assert definitions.is_served(second)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["v1alpha1", "v10", "v2", "foo", "v1", "v1beta2", "v2beta1", "bar", "v1beta10"],
            ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "bar", "foo"],
        ),
    ],
)
def test_versions_by_preference(names: list[str], expected: list[str]) -> None:
    assert sorted(names, key=definitions.priority) == expected


def test_versions_of_one_kind() -> None:
    manifest = definition(
        "Box", version("v1beta1", storage=False, deprecated=True), version("v2", served=False, storage=False), version()
    )
    stored, older = resources(manifest)
    assert (stored.version, stored.stored_as, stored.deprecation) == ("v1", None, "")
    assert (older.version, older.stored_as) == ("v1beta1", stored)
    assert older.deprecation == "example.com/v1beta1 Box is deprecated"
    assert stored.collection == older.collection == "boxes.example.com"
    assert (stored.singular, stored.list_kind) == ("box", "BoxList")


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ({"type": "integer", "jsonPath": ".spec.size"}, 3),
        ({"type": "number", "jsonPath": ".spec.size"}, 3.0),
        ({"type": "string", "jsonPath": ".spec.size"}, "3"),
        ({"type": "boolean", "jsonPath": ".spec.size"}, None),
        ({"type": "string", "jsonPath": ".spec.nothing"}, None),
        ({"type": "string", "jsonPath": ".spec.names"}, '["a","b"]'),
        ({"type": "string", "jsonPath": ".spec.names[1]"}, "b"),
        ({"type": "string", "jsonPath": ".spec.names[*]"}, "a"),
        ({"type": "string", "jsonPath": ".spec['a.b']"}, "c"),
        ({"type": "string", "jsonPath": r".spec.a\.b"}, "c"),
        ({"type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'}, "True"),
        ({"type": "string", "jsonPath": ".status.conditions[?(@.type=='Other')].status"}, None),
        ({"type": "date", "jsonPath": ".metadata.creationTimestamp"}, "30s"),
        ({"type": "date", "jsonPath": ".spec.names[0]"}, "<invalid>"),
        ({"type": "boolean", "jsonPath": ".spec.isOpen"}, False),
        ({"type": "integer", "jsonPath": ".spec.isOpen"}, None),
    ],
)
def test_columns(column: dict[str, Any], cell: Any) -> None:
    manifest = definition("Box", version(additionalPrinterColumns=[{"name": "C", **column}]))
    [resource] = resources(manifest)
    obj = {
        "metadata": {"name": "b", "creationTimestamp": "2023-11-14T22:12:50Z"},
        "spec": {"size": 3, "names": ["a", "b"], "a.b": "c", "isOpen": False},
        "status": {"conditions": [{"type": "Late", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert resource.printer.cells(obj, NOW) == ["b", cell]
    assert [each.name for each in resource.printer.columns] == ["Name", "C"]


def test_without_columns_there_is_the_age() -> None:
    [resource] = resources(definition())
    assert [(each.name, each.type) for each in resource.printer.columns] == [("Name", "string"), ("Age", "date")]


@pytest.mark.parametrize("path", ["spec", ".spec[", ".a[?(@.b=1)]", "", "." + "a" * paths.LONGEST])
def test_paths_that_cannot_be_followed(path: str) -> None:
    for follow in (paths.check, paths.fields, functools.partial(paths.first, {})):
        with pytest.raises(paths.PathError):
            follow(path)


def test_warnings_of_what_has_no_effect() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "a": {"type": "string", "format": "nobody-knows"},
                    "b": {
                        "type": "array",
                        "x-kubernetes-list-type": "set",
                        "items": {"type": "object", "x-kubernetes-map-type": "atomic"},
                    },
                },
            },
            "status": STATUS,
        },
    }
    found = definitions.warnings(definition("Box", version(schema={"openAPIV3Schema": schema})))
    assert [each.partition(":")[0] for each in found] == [
        'unrecognized format "nobody-knows"',
        "x-kubernetes-list-type",
    ]
