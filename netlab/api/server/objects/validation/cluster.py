"""Namespaces, nodes, their leases, and events."""

from __future__ import annotations

from netlab.api.coordination_types import Lease
from netlab.api.core_types import Event, Namespace, Node
from netlab.api.node_types import RuntimeClass
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules


def namespace(new: Namespace, problems: Problems) -> None:
    """v1.Namespace has nothing beyond its name."""


def node(new: Node, problems: Problems) -> None:
    """v1.Node."""
    spec = new.spec
    versions = [rules.cidr(f"spec.podCIDRs[{index}]", cidr, problems) for index, cidr in enumerate(spec.podCIDRs)]
    if len(versions) > 2 or (len(versions) == 2 and versions[0] == versions[1]):
        problems.invalid("spec.podCIDRs", spec.podCIDRs, "may hold no more than one CIDR for each IP family")
    if spec.podCIDRs and spec.podCIDR != spec.podCIDRs[0]:
        problems.invalid("spec.podCIDR", spec.podCIDR, "must be the first of podCIDRs")
    seen = set()
    for index, taint in enumerate(spec.taints):
        path = f"spec.taints[{index}]"
        if not taint.key:
            problems.required(f"{path}.key")
        rules.taint(path, taint.key, taint.value, problems)
        problems.one_of(f"{path}.effect", taint.effect, rules.TAINT_EFFECTS)
        if (taint.key, taint.effect) in seen:
            problems.duplicate(path, taint)
        seen.add((taint.key, taint.effect))


def node_update(new: Node, old: Node, problems: Problems) -> None:
    """A node's pod subnets stay once they are given: pods have addresses of them."""
    if old.spec.podCIDRs and new.spec.podCIDRs != old.spec.podCIDRs:
        problems.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')


def event(new: Event, problems: Problems) -> None:
    """v1.Event is about something in its own namespace."""
    expected = new.involvedObject.namespace or "default"
    if new.metadata.namespace != expected:
        problems.invalid("involvedObject.namespace", new.involvedObject.namespace, "does not match event.namespace")


def lease(new: Lease, problems: Problems) -> None:
    """coordination.k8s.io/v1.Lease."""
    duration, transitions = new.spec.leaseDurationSeconds, new.spec.leaseTransitions
    if duration is not None and duration <= 0:
        problems.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    if transitions is not None and transitions < 0:
        problems.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0")


def runtime_class(new: RuntimeClass, problems: Problems) -> None:
    """node.k8s.io/v1.RuntimeClass."""
    rules.dns_label("handler", new.handler, problems)


def runtime_class_update(new: RuntimeClass, old: RuntimeClass, problems: Problems) -> None:
    """Pods that run were started by the handler."""
    problems.unchanged("handler", new.handler, old.handler)
