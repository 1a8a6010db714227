"""On which nodes a DaemonSet's pods are to run, and stay (upstream's NodeShouldRunDaemonPod)."""

from __future__ import annotations

import copy

from netlab.api.apps_types import DaemonSet, PodTemplateSpec
from netlab.api.core_types import (
    Affinity,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    Toleration,
)
from netlab.controlplane import affinity
from netlab.controlplane.taints import in_force, tolerates

_EVICTING = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_UNWELCOMING = (
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
)
_NO_NETWORK = "node.kubernetes.io/network-unavailable"


def tolerations(spec: PodSpec) -> list[Toleration]:
    """What a daemon's pod tolerates: what its template says, and what its node may become (util.AddOrUpdateDaemonPod-
    Tolerations)."""
    unwelcoming = [*_UNWELCOMING, *([_NO_NETWORK] if spec.hostNetwork else [])]
    wanted = [
        *(Toleration(key=key, operator="Exists", effect="NoExecute") for key in _EVICTING),
        *(Toleration(key=key, operator="Exists", effect="NoSchedule") for key in unwelcoming),
    ]
    return [*spec.tolerations, *(each for each in wanted if each not in spec.tolerations)]


def where(daemon_set: DaemonSet, node: Node) -> tuple[bool, bool]:
    """Whether a pod is to be started on the node, and whether one that is there may stay."""
    spec = daemon_set.spec.template.spec
    if spec.nodeName and spec.nodeName != node.metadata.name:
        return False, False
    if not affinity.Required.of(spec).matches(node.metadata.name, node.metadata.labels):
        return False, False
    tolerated = tolerations(spec)
    refusing = [
        taint.effect
        for taint in in_force(node)
        if taint.effect != "PreferNoSchedule" and not tolerates(tolerated, taint)
    ]
    return not refusing, "NoExecute" not in refusing


def template_for(template: PodTemplateSpec, node: str) -> PodTemplateSpec:
    """The template of the pod of one node, where the scheduler is to place it."""
    made = copy.deepcopy(template)
    spec = made.spec
    spec.tolerations = tolerations(spec)
    pinned = NodeSelectorRequirement(key=affinity.NAME_FIELD, operator="In", values=[node])
    spec.affinity = spec.affinity or Affinity()
    on_node = spec.affinity.nodeAffinity = spec.affinity.nodeAffinity or NodeAffinity()
    # The template's own terms hold already: the node was chosen by them.
    on_node.requiredDuringSchedulingIgnoredDuringExecution = NodeSelector(
        nodeSelectorTerms=[NodeSelectorTerm(matchFields=[pinned])]
    )
    return made


def node_of(pod: Pod) -> str:
    """The node that a daemon's pod runs on, or is to be placed on."""
    if pod.spec.nodeName:
        return pod.spec.nodeName
    required = affinity.required(pod.spec)
    for term in required.nodeSelectorTerms if required else ():
        for field in term.matchFields:
            if (field.key, field.operator) == (affinity.NAME_FIELD, "In") and len(field.values) == 1:
                return field.values[0]
    return ""
