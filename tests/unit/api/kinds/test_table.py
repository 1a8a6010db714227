"""The table against another gathering of the same facts: lightkube-models, generated from Kubernetes' OpenAPI.

Its modules are read and not imported: that would need the whole client.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
from typing import Any

import pytest

from netlab.api.kinds import table

_GAPS = {("core.v1.NodeSystemInfo", "runningInUserNamespace")}
"""Fields newer than the table."""

_MEASURED = "metrics."
"""What metrics-server serves is not among Kubernetes' own documents."""

_PARENTS = {"meta": "meta_v1", "resource": "resource", "intstr": "util_intstr", "runtime": "runtime"}

_IN_PYTHON = {
    "string": "str",
    "bytes": "str",
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "double": "float",
    "meta.v1.Verbs": "List[str",
}


def _module_of(name: str) -> str:
    """The module that has a message: `core.v1.Pod` is in core_v1."""
    group, *rest = name.split(".")
    return _PARENTS.get(group) or f"{group}_{rest[0]}"


@functools.cache
def _classes(module: str) -> dict[str, dict[str, tuple[str, bool]]]:
    """The classes of a module: by a field's name in JSON its type and whether it is required."""
    path = importlib.metadata.distribution("lightkube-models").locate_file(f"lightkube/models/{module}.py")
    tree = ast.parse(path.read_text())
    return {node.name: dict(map(_field, _annotated(node))) for node in tree.body if isinstance(node, ast.ClassDef)}


def _annotated(node: ast.ClassDef) -> list[ast.AnnAssign]:
    return [each for each in node.body if isinstance(each, ast.AnnAssign)]


def _field(node: ast.AnnAssign) -> tuple[str, tuple[str, bool]]:
    assert isinstance(node.target, ast.Name)
    assert isinstance(node.annotation, ast.Constant)
    name, value = node.target.id, ast.unparse(node.value) if node.value else ""
    if found := re.search(r"'json': '([^']+)'", value):
        name = found[1]
    kind = str(node.annotation.value).removeprefix("Optional[")
    return name, (kind.rstrip("]") if kind.startswith("List[") else kind.removesuffix("]"), not value)


def _expected(field: table.Field) -> str:
    """A field's type as lightkube-models writes it, without the module."""
    if field.mapped:
        return "dict"
    kind = _IN_PYTHON.get(field.type) or field.type.rpartition(".")[2]
    return f"List[{kind}" if field.repeated else kind


def _without_module(kind: str) -> str:
    listed, kind = kind.startswith("List["), kind.removeprefix("List[").rpartition(".")[2]
    return f"List[{kind}" if listed else kind


_WITH_FIELDS = [
    name
    for name in table.names()
    if not name.startswith(_MEASURED)
    and name.rpartition(".")[2] in _classes(_module_of(name))
    and table.message(name).fields
]


@pytest.mark.parametrize("name", _WITH_FIELDS)
def test_a_message_has_the_fields_that_kubernetes_publishes(name: str) -> None:
    published = dict(_classes(_module_of(name))[name.rpartition(".")[2]])
    ours: dict[str, Any] = dict(table.message(name).fields)
    published = {field: facts for field, facts in published.items() if (name, field) not in _GAPS}
    for own in ("apiVersion", "kind"):
        if own not in ours:
            published.pop(own, None)
    assert {field: (_expected(facts), facts.required) for field, facts in ours.items()} == {
        field: (_without_module(kind), required) for field, (kind, required) in published.items()
    }


def test_nearly_all_messages_were_compared() -> None:
    assert len(_WITH_FIELDS) > 500


def test_every_kind_that_kubernetes_publishes_is_there() -> None:
    groups = {_module_of(kind.message) for kind in table.kinds() if not kind.message.startswith(_MEASURED)}
    assert len(groups) == 21
    ours = {kind.message for kind in table.kinds()}
    for module in groups:
        for name, fields in _classes(module).items():
            if "metadata" in fields and "apiVersion" in fields and "kind" in fields:
                group, version = module.rsplit("_", 1)
                assert f"{group}.{version}.{name}" in ours


def test_numbers_and_names_are_used_once_in_a_message() -> None:
    for name in table.names():
        own = table.message(name).own
        assert len({field.number for field in own}) == len(own)
        assert all(field.type in table.SCALARS or field.type in table.names() for field in own)


@pytest.mark.parametrize(
    ("message", "field", "patch", "key", "kind", "keys"),
    [
        ("core.v1.PodSpec", "containers", "merge", "name", "map", ("name",)),
        ("core.v1.PodSpec", "volumes", "merge,retainKeys", "name", "map", ("name",)),
        ("core.v1.Container", "ports", "merge", "containerPort", "map", ("containerPort", "protocol")),
        ("core.v1.EphemeralContainer", "env", "merge", "name", "map", ("name",)),
        ("core.v1.Container", "args", "", "", "atomic", ()),
        ("core.v1.ServiceSpec", "ports", "merge", "port", "map", ("port", "protocol")),
        ("core.v1.NodeSpec", "podCIDRs", "merge", "", "set", ()),
        ("meta.v1.ObjectMeta", "finalizers", "merge", "", "set", ()),
        ("meta.v1.ObjectMeta", "ownerReferences", "merge", "uid", "map", ("uid",)),
        ("apps.v1.DeploymentSpec", "strategy", "retainKeys", "", "", ()),
        ("discovery.v1.EndpointSlice", "endpoints", "", "", "atomic", ()),
        ("core.v1.PodStatus", "podIPs", "merge", "ip", "map", ("ip",)),
    ],
)
def test_how_lists_are_merged(message: str, field: str, patch: str, key: str, kind: str, keys: tuple[str, ...]) -> None:
    merging = table.message(message).fields[field].merging
    assert (merging.patch, merging.key, merging.list, merging.keys) == (patch, key, kind, keys)


@pytest.mark.parametrize(
    ("api_version", "kind", "message"),
    [
        ("v1", "Pod", "core.v1.Pod"),
        ("apps/v1", "DeploymentList", "apps.v1.DeploymentList"),
        ("discovery.k8s.io/v1", "EndpointSlice", "discovery.v1.EndpointSlice"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "apiextensions.v1.CustomResourceDefinition"),
        ("autoscaling/v1", "Scale", "autoscaling.v1.Scale"),
        ("policy/v1", "Eviction", "policy.v1.Eviction"),
        ("apps/v1", "DeleteOptions", "meta.v1.DeleteOptions"),
        ("v1", "Status", "meta.v1.Status"),
        ("meta.k8s.io/v1", "PartialObjectMetadata", "meta.v1.PartialObjectMetadata"),
        ("meta.k8s.io/v1", "Table", None),
        ("v1", "Deployment", None),
        ("extensions/v1beta1", "Deployment", None),
    ],
)
def test_a_kind_is_found(api_version: str, kind: str, message: str | None) -> None:
    found = table.message_of(api_version, kind)
    assert (found.name if found else None) == message
