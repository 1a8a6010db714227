"""What an object asks for and nothing in netlab gives it: its author is warned.

Fields that have no effect whatever their value are marked in the types (`meta_types.Ignored`). Here are those of which
some values have one: on the JSON as it was sent, before the defaults, which are nobody's wish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from netlab.api import load_balancers
from netlab.api.meta_types import Object
from netlab.api.resources import (
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from netlab.api.server.objects import definitions
from netlab.api.server.objects.schema import JSONObject


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A field, by its path (`[]`: each item of a list), and when it promises what is not kept."""

    path: str
    text: str
    applies: Callable[[Any, JSONObject], bool] = lambda value, spec: value not in (None, "", 0)
    """Of the field's value and the pod's or object's spec."""


_ANY_CONTAINER = ("containers", "initContainers", "ephemeralContainers")


_POD: tuple[_Rule, ...] = (
    *(
        _Rule(
            f"{kind}[].imagePullPolicy",
            "a lab's nodes pull no image: what `netlab image pull` brought last is run",
            lambda value, spec: value == "Always",
        )
        for kind in _ANY_CONTAINER
    ),
    *(
        _Rule(
            f"{kind}[].securityContext.allowPrivilegeEscalation",
            "no process of a container gets privileges by execve(2), whatever it asks for",
            lambda value, spec: value is True,
        )
        for kind in _ANY_CONTAINER
    ),
    _Rule("securityContext.fsGroupChangePolicy", "no volume here is of a type for which it decides anything"),
    _Rule(
        "volumes[].emptyDir.medium",
        "nodes give no huge pages: this volume is in ordinary memory",
        lambda value, spec: str(value).startswith("HugePages"),
    ),
)

_RULES: dict[str, tuple[str, tuple[_Rule, ...]]] = {
    PODS.plural: ("spec", _POD),
    DEPLOYMENTS.plural: ("spec.template.spec", _POD),
    REPLICASETS.plural: ("spec.template.spec", _POD),
    REPLICATIONCONTROLLERS.plural: ("spec.template.spec", _POD),
    DAEMONSETS.plural: ("spec.template.spec", _POD),
    STATEFULSETS.plural: ("spec.template.spec", _POD),
    JOBS.plural: ("spec.template.spec", _POD),
    CRONJOBS.plural: ("spec.jobTemplate.spec.template.spec", _POD),
    SERVICES.plural: (
        "spec",
        (
            _Rule(
                "loadBalancerClass",
                f"no load balancer of this class is there; the lab's own has the class {load_balancers.CLASS}",
                lambda value, spec: value not in (None, "", load_balancers.CLASS),
            ),
        ),
    ),
}


def warnings(resource: Resource[Object], new: JSONObject, old: JSONObject | None = None) -> list[str]:
    """A line for each field of an object, as it was sent, that promises what is not kept; what `old` has is known."""
    if resource.is_stored_only and old is None:
        return [f"{resource.kind}: stored and returned, but nothing in netlab acts upon it"]
    if resource is CUSTOMRESOURCEDEFINITIONS:
        present = definitions.warnings(old) if old is not None else []
        return [each for each in definitions.warnings(new) if each not in present]
    if resource.collection not in _RULES:
        return []
    place, rules = _RULES[resource.collection]
    spec, known = _at(new, place), _at(old or {}, place)
    found = []
    for rule in rules:
        before = dict(_values(known, rule.path))
        for path, value in _values(spec, rule.path):
            if before.get(path) != value and rule.applies(value, spec):
                found.append(f"{place}.{path}: {rule.text}")
    return found


def _at(obj: JSONObject, place: str) -> JSONObject:
    for name in place.split("."):
        obj = obj.get(name) or {}
    return obj


def _values(obj: JSONObject, path: str) -> Iterator[tuple[str, Any]]:
    """What stands at a path of the table, each with its own path."""
    first, _, rest = path.partition(".")
    name = first.removesuffix("[]")
    value = obj.get(name)
    if value is None:
        return
    places = [(name, value)] if name == first else [(f"{name}[{number}]", item) for number, item in enumerate(value)]
    for place, item in places:
        if not rest:
            yield place, item
        else:
            yield from ((f"{place}.{below}", found) for below, found in _values(item, rest))
