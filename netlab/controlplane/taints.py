"""Taints and tolerations: what keeps pods off a node, and what its state adds to that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netlab.api.core_types import Node, Taint, Toleration
from netlab.controlplane.cluster import condition_of

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"


def tolerating(tolerations: Iterable[Toleration], taint: Taint) -> Toleration | None:
    """The first of the tolerations that is of the taint; None: there is none."""
    return next(
        (
            each
            for each in tolerations
            if each.effect in ("", taint.effect)
            and ((each.key == "" and each.operator == "Exists") or each.key == taint.key)
            and (each.operator == "Exists" or each.value == taint.value)
        ),
        None,
    )


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether one of the tolerations is of the taint."""
    return tolerating(tolerations, taint) is not None


def untolerated(tolerations: Sequence[Toleration], taints: Iterable[Taint]) -> Taint | None:
    """The first taint that keeps a pod with these tolerations off; None: it may go there."""
    for taint in taints:
        if taint.effect != PREFER_NO_SCHEDULE and not tolerates(tolerations, taint):
            return taint
    return None


def in_force(node: Node) -> list[Taint]:
    """A node's taints, and those that its state means and the node controller is about to write.

    So no pod is placed on a node that is not ready before the taint says so, as upstream's API server gives new nodes
    the taint not-ready from the beginning.
    """
    ready = condition_of(node.status.conditions, "Ready")
    implied = []
    if ready is None or ready.status == "False":
        implied.append(NOT_READY)
    elif ready.status != "True":
        implied.append(UNREACHABLE)
    if node.spec.unschedulable:
        implied.append(UNSCHEDULABLE)
    written = {taint.key for taint in node.spec.taints}
    return [*(Taint(key=key, effect=NO_SCHEDULE) for key in implied if key not in written), *node.spec.taints]
