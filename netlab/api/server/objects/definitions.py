"""CustomResourceDefinitions as JSON: their defaults, what the server says of them, and the resources they define."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.printers import Column, Printer, name, since
from netlab.api.resources import ADDED_PARTS, SCALE, STATUS, AddedResource
from netlab.api.server.objects.conditions import set_condition
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import expressions, formats, paths
from netlab.api.server.objects.structural.nodes import Node, Schema, compiled

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer of a definition whose objects are to be deleted first."""

ESTABLISHED, NAMES_ACCEPTED, TERMINATING = "Established", "NamesAccepted", "Terminating"


def default(definition: JSONObject) -> None:
    """What upstream's server fills in (apiextensions/v1/defaults.go), and the version that is stored from now on."""
    spec = definition["spec"]
    names = spec["names"]
    if not names.get("singular"):
        names["singular"] = names["kind"].lower()
    if not names.get("listKind") and names["kind"]:
        names["listKind"] = f"{names['kind']}List"
    spec.setdefault("conversion", {"strategy": "None"})
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]
    status = definition.setdefault(STATUS, {})
    complete_status(definition)
    for version in spec["versions"]:
        if version["storage"] and version["name"] not in status["storedVersions"]:
            status["storedVersions"].append(version["name"])


def complete_status(definition: JSONObject) -> None:
    """The fields that upstream's server always sends: generated clients require them."""
    status = definition.get(STATUS, {})
    status.setdefault("conditions", [])
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    status.setdefault("storedVersions", [])


# --- conditions ------------------------------------------------------------------------------------------------------


def is_true(definition: JSONObject, condition: str) -> bool:
    """Whether a condition of a definition holds."""
    return any(
        (each.get("type"), each.get("status")) == (condition, "True")
        for each in definition[STATUS].get("conditions", ())
    )


def warnings(definition: JSONObject) -> list[str]:
    """What is in a definition and has no effect: each once."""
    found: dict[str, None] = {}
    if definition["spec"].get("conversion", {}).get("strategy") == "Webhook":
        found["spec.conversion: netlab calls no webhooks; objects are stored as they are sent"] = None
    for version in definition["spec"]["versions"]:
        for schema in _schemas(version.get("schema", {}).get("openAPIV3Schema", {})):
            name, kind = schema.get("format", ""), schema.get("type", "")
            if name and not formats.is_known(kind, name):
                found[f'unrecognized format "{name}"'] = None
            items = schema.get("items", {})
            if schema.get("x-kubernetes-list-type") == "set" and items.get("type") in ("object", "array"):
                found[
                    f'x-kubernetes-list-type: set for items of type "{items["type"]}" is not supported by server-side '
                    "apply or CEL validation rules"
                ] = None
            for rule in schema.get("x-kubernetes-validations", ()):
                if why := _why_unevaluated(rule):
                    found[f"x-kubernetes-validations: nothing in netlab evaluates {rule['rule']!a} ({why})"] = None
    return list(found)


def _why_unevaluated(rule: JSONObject) -> str:
    if rule.get("optionalOldSelf"):
        return "optionalOldSelf"
    try:
        expressions.check_rule(rule.get("rule", ""))
    except ValueError as error:
        return str(error)
    return ""


def _schemas(schema: Any) -> Iterator[JSONObject]:
    """A schema and all that say which fields there are in it."""
    if isinstance(schema, dict):
        yield schema
        for below in (schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()):
            yield from _schemas(below)


def is_served(definition: JSONObject) -> bool:
    """Whether there are objects of it."""
    return is_true(definition, ESTABLISHED)


def is_terminating(definition: JSONObject) -> bool:
    """Whether it is being deleted, and its objects with it."""
    return "deletionTimestamp" in definition["metadata"]


def mark_for_cleanup(definition: JSONObject) -> None:
    """Have the objects of a definition that is deleted go first."""
    finalizers = definition["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    set_condition(definition, TERMINATING, holds=True, reason="InstanceDeletionPending", message=message)


# --- names -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Names:
    """The names that are in use in a group."""

    resources: set[str] = dataclasses.field(default_factory=set)
    kinds: set[str] = dataclasses.field(default_factory=set)

    def add(self, accepted: JSONObject) -> None:
        """Those that a definition was given (status.acceptedNames)."""
        named = (accepted.get(field, "") for field in ("plural", "singular"))
        self.resources.update(filter(None, (*named, *accepted.get("shortNames", ()))))
        self.kinds.update(filter(None, (accepted.get(field, "") for field in ("kind", "listKind"))))


def accept_names(definition: JSONObject, used: Names) -> None:
    """Give a definition those of the names that it asks for that no other one of its group has, and say so.

    As upstream's naming_controller.go and establishing_controller.go.
    """
    wanted, status = definition["spec"]["names"], definition[STATUS]
    accepted = dict(status.get("acceptedNames", {}))
    conflict = None
    for field, taken in (
        ("plural", used.resources),
        ("singular", used.resources),
        ("shortNames", used.resources),
        ("kind", used.kinds),
        ("listKind", used.kinds),
    ):
        texts = wanted.get(field, []) if field == "shortNames" else [wanted[field]]
        had = accepted.get(field, []) if field == "shortNames" else [accepted.get(field)]
        strays = [text for text in texts if text not in had and text in taken]
        if strays:
            said = [f'"{text}" is already in use' for text in strays]
            message = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
            conflict = (f"{field[0].upper()}{field[1:]}Conflict", message)
        else:
            accepted |= {field: wanted[field]} if field in wanted else {}
            if field not in wanted:
                accepted.pop(field, None)
    accepted.pop("categories", None)
    accepted |= {"categories": wanted["categories"]} if wanted.get("categories") else {}
    status["acceptedNames"] = accepted
    reason, message = conflict or ("NoConflicts", "no conflicts found")
    set_condition(definition, NAMES_ACCEPTED, holds=conflict is None, reason=reason, message=message)
    if is_true(definition, ESTABLISHED):
        return
    reason, message = ("InitialNamesAccepted", "the initial names have been accepted")
    if conflict is not None:
        reason, message = "NotAccepted", "not all names are accepted"
    set_condition(definition, ESTABLISHED, holds=conflict is None, reason=reason, message=message)


# --- resources -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ScalePaths:
    """Where an object has what its Scale says: the names of the fields, one within the other."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    selector: tuple[str, ...] = ()
    """Empty: it has none."""


@dataclasses.dataclass(frozen=True, eq=False)
class CustomResource(AddedResource[Object]):
    """A version of a kind, with all that its CustomResourceDefinition says of it."""

    names: JSONObject = dataclasses.field(default_factory=dict)
    """Those that were accepted."""
    schema: Schema = dataclasses.field(default_factory=dict)
    """As it was sent (apiextensions.v1.JSONSchemaProps)."""
    selectable: tuple[str, ...] = ()
    """The fields by which its objects can be selected, besides those of the metadata."""
    scale: ScalePaths | None = None
    deprecation: str = ""
    """What who uses this version is warned of."""
    is_terminating: bool = False
    family: list[CustomResource] = dataclasses.field(default_factory=list)
    """All versions of the kind, this one among them."""

    @property
    def singular(self) -> str:
        """The singular name in lower case."""
        return str(self.names["singular"])

    @property
    def list_kind(self) -> str:
        """The kind of a list of its objects."""
        return str(self.names["listKind"])

    @functools.cached_property
    def root(self) -> Node:
        """What its schema says of an object."""
        return compiled(self.schema)


def facts(definition: JSONObject) -> JSONObject:
    """All of a definition that its resources follow from."""
    return {
        "spec": definition["spec"],
        "names": definition[STATUS]["acceptedNames"],
        "served": is_served(definition),
        "terminating": is_terminating(definition),
    }


def resources_of(definition: JSONObject) -> list[CustomResource]:
    """The versions that a definition serves, in the order of preference; none before it is established."""
    if not is_served(definition):
        return []
    versions = definition["spec"]["versions"]
    storage = storage_of(definition)
    family = storage.family
    others = (each for each in versions if not each["storage"])
    family += [storage, *(_resource_of(definition, each, storage, family) for each in others)]
    served = {each["name"] for each in versions if each["served"]}
    return sorted((each for each in family if each.version in served), key=lambda each: priority(each.version))


def storage_of(definition: JSONObject) -> CustomResource:
    """The version that is stored, whether it is served or not; by itself."""
    [stored] = (each for each in definition["spec"]["versions"] if each["storage"])
    return _resource_of(definition, stored, None, [])


def _resource_of(
    definition: JSONObject, version: JSONObject, storage: CustomResource | None, family: list[CustomResource]
) -> CustomResource:
    spec, names = definition["spec"], definition[STATUS]["acceptedNames"]
    group = spec["group"]
    parts = version.get("subresources", {})
    return CustomResource(
        group,
        version["name"],
        names["kind"],
        names["plural"],
        Object,
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        subresources=tuple(part for name, part in ADDED_PARTS.items() if name in parts),
        printer=_printer(version.get("additionalPrinterColumns", ())),
        stored_as=storage,
        names=names,
        schema=version["schema"]["openAPIV3Schema"],
        selectable=tuple(each["jsonPath"].removeprefix(".") for each in version.get("selectableFields", ())),
        scale=_scale_paths(parts[SCALE]) if SCALE in parts else None,
        deprecation=_deprecation(group, version, names["kind"]),
        is_terminating=is_terminating(definition),
        family=family,
    )


def _scale_paths(scale: JSONObject) -> ScalePaths:
    selector = scale.get("labelSelectorPath")
    return ScalePaths(
        paths.fields(scale["specReplicasPath"]),
        paths.fields(scale["statusReplicasPath"]),
        paths.fields(selector) if selector else (),
    )


def _deprecation(group: str, version: JSONObject, kind: str) -> str:
    if not version.get("deprecated"):
        return ""
    return str(version.get("deprecationWarning") or f"{group}/{version['name']} {kind} is deprecated")


def priority(version: str) -> tuple[Any, ...]:
    """By which versions are sorted, the preferred one first (apimachinery pkg/version, CompareKubeAware...)."""
    major, level, minor = _parts(version)
    if major is None:
        return (1, version)
    return (0, -level, -major, -minor)


def _parts(version: str) -> tuple[int | None, int, int]:
    """Major, how stable (2: v1, 1: v1beta2, 0: v1alpha3), minor; no major: another text."""
    rest = version.removeprefix("v")
    for level, word in enumerate(("alpha", "beta")):
        major, found, minor = rest.partition(word)
        if found and _is_number(major) and _is_number(minor):
            return int(major), level, int(minor)
    return (int(rest), 2, 0) if rest != version and _is_number(rest) else (None, 0, 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < 10


# --- columns ---------------------------------------------------------------------------------------------------------

_NAME = Column("Name", "The name of the object, unique within its namespace and kind.", format="name")

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _printer(listed: Iterable[JSONObject]) -> Printer:
    """The columns of a definition; of one without any, the age."""
    wanted = list(listed) or [_AGE]
    columns = [_NAME]
    for each in wanted:
        path = each["jsonPath"]
        said = each.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        columns.append(Column(each["name"], said, each.get("priority", 0), each["type"], each.get("format", "")))

    def cells(obj: JSONObject, moment: float) -> list[Any]:
        return [name(obj), *(_cell(paths.first(obj, each["jsonPath"]), each["type"], moment) for each in wanted)]

    return Printer(tuple(columns), cells)


def _cell(value: Any, kind: str, moment: float) -> Any:
    """What is shown of a value in a column of a type; None if it is of another."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    shown: Any = None
    if kind == "string" and value is not None:
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    elif kind in ("integer", "number") and is_number:
        shown = int(value) if kind == "integer" else float(value)
    elif kind == "boolean" and isinstance(value, bool):
        shown = value
    elif kind == "date" and isinstance(value, str):
        shown = _since(value, moment)
    return shown


def _since(text: str, moment: float) -> str:
    try:
        return since(text, moment)
    except ValueError:
        return "<invalid>"
