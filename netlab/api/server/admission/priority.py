"""The admission plugin Priority of upstream: pods have the priority of their class, and one class is the default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from netlab.api.resources import PODS, PRIORITYCLASSES, Resource
from netlab.api.scheduling_types import PREEMPT_LOWER_PRIORITY, PriorityClass
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.validation.scheduling import SYSTEM_CLASSES
from netlab.api.server.storage.store import Store

_CLASSES: Resource[Any] = PRIORITYCLASSES

_DESCRIPTIONS = {
    "system-cluster-critical": "Used for system critical pods that must run in the cluster, but can be moved to "
    "another node if necessary.",
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}


def system_classes() -> Iterator[JSONObject]:
    """The priority classes that every cluster has."""
    for name, value in SYSTEM_CLASSES.items():
        yield {"metadata": {"name": name}, "value": value, "description": _DESCRIPTIONS[name]}


def admit(attributes: Attributes, store: Store) -> None:
    """Give a new pod its priority, and leave it to a changed one.

    Raises `ApiError` (403) for an unknown class, and for a priority that is not its class's.
    """
    if attributes.resource is not PODS or attributes.subresource:
        return
    if attributes.operation is Operation.CREATE:
        _give(attributes, store)
    elif attributes.old is not None:
        spec, before = attributes.obj["spec"], attributes.old["spec"]
        for field in ("priority", "preemptionPolicy"):
            if spec.get(field) is None and field in before:
                spec[field] = before[field]


def validate(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403) for a second default class, and for the end of one that every cluster has."""
    if attributes.resource is not PRIORITYCLASSES:
        return
    if attributes.operation is Operation.DELETE:
        if attributes.name in SYSTEM_CLASSES:
            raise attributes.forbidden("this is a system priority class and cannot be deleted")
        return
    present = _default_class(store) if attributes.obj.get("globalDefault") else None
    if present is not None and present.metadata.name != attributes.name:
        name = present.metadata.name
        raise attributes.forbidden(f"PriorityClass {name} is already marked as default. Only one default can exist")


def _default_class(store: Store) -> PriorityClass | None:
    """The class of pods that name none; of several, the lowest."""
    classes = (msgspec.json.decode(stored.raw, type=PriorityClass) for stored in store.all(_CLASSES))
    return min((each for each in classes if each.globalDefault), key=lambda each: each.value, default=None)


def _give(attributes: Attributes, store: Store) -> None:
    spec = attributes.obj["spec"]
    found: PriorityClass | None
    if wanted := spec.get("priorityClassName"):
        stored = store.get(_CLASSES, "", wanted)
        if stored is None:
            raise attributes.forbidden(f"no PriorityClass with name {wanted} was found")
        found = msgspec.json.decode(stored.raw, type=PriorityClass)
    else:
        found = _default_class(store)
    value = found.value if found is not None else 0
    policy = (found.preemptionPolicy if found is not None else None) or PREEMPT_LOWER_PRIORITY
    if (given := spec.get("priority")) not in (None, value):
        raise attributes.forbidden(
            f"the integer value of priority ({given}) must not be provided in pod spec; priority admission controller "
            f"computed {value} from the given PriorityClass name"
        )
    if (given := spec.get("preemptionPolicy")) not in (None, policy):
        raise attributes.forbidden(
            f"the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission "
            f"controller computed {policy} from the given PriorityClass name"
        )
    if found is not None:
        spec["priorityClassName"] = found.metadata.name
    spec["priority"], spec["preemptionPolicy"] = value, policy
