"""CustomResourceDefinitions for tests, and resources of them."""

from __future__ import annotations

import copy
from typing import Any

from netlab.api.server.objects import definitions
from netlab.api.server.objects.definitions import CustomResource

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
        "replicas": {"type": "integer"},
    },
}

STATUS: dict[str, Any] = {
    "type": "object",
    "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}},
}

ROOT: dict[str, Any] = {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}

SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def version(name: str = "v1", *, storage: bool = True, served: bool = True, **fields: Any) -> dict[str, Any]:
    """A version of a definition, with a schema unless it is among the fields."""
    return {
        "name": name,
        "served": served,
        "storage": storage,
        "schema": {"openAPIV3Schema": copy.deepcopy(ROOT)},
    } | fields


def definition(
    kind: str = "Box", *versions: dict[str, Any], group: str = "example.com", scope: str = "Namespaced", **names: Any
) -> dict[str, Any]:
    """A definition; `versions` are one if none is given."""
    plural = names.get("plural", f"{kind.lower()}es")
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": kind} | names,
            "versions": list(versions) or [version()],
        },
    }


def resources(manifest: dict[str, Any]) -> list[CustomResource]:
    """What a definition serves once it is established."""
    definitions.default(manifest)
    definitions.accept_names(manifest, definitions.Names())
    return definitions.resources_of(manifest)
