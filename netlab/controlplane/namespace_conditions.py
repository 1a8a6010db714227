"""What a namespace that is being deleted says about what is left in it (KEP-5080, controller/namespace/deletion)."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence

from netlab.api.meta_types import Condition, Object
from netlab.controlplane.cluster import condition_of

Left = Mapping[str, Sequence[Object]]
"""The objects that are still there, by the resource's name and group: `pods.`, `deployments.apps`."""

_FINE: dict[str, tuple[str, str]] = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}
"""The reason and the message of each condition when it is False: there is no such trouble."""


def conditions(seen: Sequence[Condition], left: Left, failures: Iterable[str], now: str) -> list[Condition]:
    """The namespace's conditions, by what is left in it and what could not be deleted; `seen` are those it has."""
    troubles: dict[str, tuple[str, str]] = {}
    counts = {name: len(objects) for name, objects in left.items() if objects}
    if told := sorted(failures):
        message = f"Failed to delete all resource types, {len(told)} remaining: {', '.join(told)}"
        troubles["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if counts:
        each = ", ".join(sorted(f"{name} has {count} resource instances" for name, count in counts.items()))
        troubles["NamespaceContentRemaining"] = ("SomeResourcesRemain", f"Some resources are remaining: {each}")
    held = collections.Counter(name for objects in left.values() for obj in objects for name in obj.metadata.finalizers)
    if held:
        each = ", ".join(sorted(f"{name} in {count} resource instances" for name, count in held.items()))
        message = f"Some content in the namespace has finalizers remaining: {each}"
        troubles["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    own = [_condition(kind, troubles.get(kind), condition_of(seen, kind), now) for kind in _FINE]
    return [*(each for each in seen if each.type not in _FINE), *own]


def _condition(kind: str, trouble: tuple[str, str] | None, seen: Condition | None, now: str) -> Condition:
    status = "True" if trouble else "False"
    reason, message = trouble or _FINE[kind]
    turned = seen.lastTransitionTime if seen is not None and seen.status == status else now
    return Condition(type=kind, status=status, reason=reason, message=message, lastTransitionTime=turned)
