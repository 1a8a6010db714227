"""What the scheduler derives from a pod, once and not for every node."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from netlab.api.core_types import Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint
from netlab.api.host_ports import HostPort, host_ports
from netlab.api.meta_types import LabelSelector
from netlab.api.selectors import Requirement, Selector, from_label_selector
from netlab.controlplane import affinity
from netlab.controlplane.cluster import condition_of, controller_of, parse_time
from netlab.controlplane.scheduler import requests
from netlab.controlplane.scheduler.requests import Amounts
from netlab.errors import UsageError

NOTHING = Selector((Requirement("", "In"),))
"""Selects no object: what an absent label selector means."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodTerm:
    """Pods that are selected in some namespaces, within a domain: nodes with the same value of a label."""

    topology_key: str
    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector = NOTHING

    def matches(self, pod: PodInfo, namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod, in a namespace with these labels, is one of them."""
        inside = pod.namespace in self.namespaces or self.namespace_selector.matches(namespace_labels)
        return inside and self.selector.matches(pod.labels)


WeightedTerm = tuple[PodTerm, int]
"""A preferred term and its weight; less than zero: the pods are to be away from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint."""

    topology_key: str
    max_skew: int
    selector: Selector
    is_hard: bool = False
    """Whether no node is better than one that breaks it."""
    min_domains: int = 1
    heeds_affinity: bool = True
    """Whether nodes that the pod's node affinity excludes are passed over, and so of taints."""
    heeds_taints: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod, as far as its placement depends on it, and that of others."""

    key: str
    uid: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    priority: int
    is_terminating: bool
    is_preempted: bool
    """Whether it goes because another pod takes its place."""
    started: float
    """In seconds since the epoch; later than all if it has not."""
    may_preempt: bool
    tolerations: tuple[Toleration, ...]
    required: affinity.Required
    preferred: tuple[tuple[int, affinity.Term], ...]
    ports: tuple[HostPort, ...]
    requests: Amounts
    compared: Amounts
    """The cpu and memory that it is taken to use when nodes are compared."""
    affinity_terms: tuple[PodTerm, ...]
    anti_affinity_terms: tuple[PodTerm, ...]
    preferred_terms: tuple[WeightedTerm, ...]
    spread: tuple[Spread, ...]
    owner: tuple[str, str]
    """Kind and name of its controller."""
    node_name: str = dataclasses.field(compare=False)
    nominated: str = dataclasses.field(compare=False)

    @classmethod
    def of(cls, pod: Pod) -> PodInfo:
        """What follows from a pod."""
        spec, meta = pod.spec, pod.metadata
        owner = controller_of(pod)
        disrupted = condition_of(pod.status.conditions, "DisruptionTarget")
        attracting, repelling, leaning = _pod_affinity(spec, meta.namespace)
        return cls(
            key=pod.key,
            uid=meta.uid,
            name=meta.name,
            namespace=meta.namespace,
            labels=meta.labels,
            priority=spec.priority or 0,
            is_terminating=meta.deletionTimestamp is not None,
            is_preempted=disrupted is not None and disrupted.reason == "PreemptionByScheduler",
            started=parse_time(pod.status.startTime).timestamp() if pod.status.startTime else math.inf,
            may_preempt=spec.preemptionPolicy != "Never",
            node_name=spec.nodeName,
            nominated=pod.status.nominatedNodeName,
            tolerations=tuple(spec.tolerations),
            required=affinity.Required.of(spec),
            preferred=affinity.preferred(spec),
            ports=tuple(host_ports(spec)),
            requests={name: value for name, value in requests.of_pod(spec).items() if value},
            compared=requests.compared(spec),
            affinity_terms=attracting,
            anti_affinity_terms=repelling,
            preferred_terms=leaning,
            spread=tuple(_spread(each, meta.labels) for each in spec.topologySpreadConstraints),
            owner=(owner.kind, owner.name) if owner is not None else ("", ""),
        )


def _pod_affinity(
    spec: PodSpec, namespace: str
) -> tuple[tuple[PodTerm, ...], tuple[PodTerm, ...], tuple[WeightedTerm, ...]]:
    """The terms that must hold, those that must not, and those that are preferred."""
    if spec.affinity is None:
        return (), (), ()
    near, away = spec.affinity.podAffinity, spec.affinity.podAntiAffinity
    weighted = [
        *((each, 1) for each in (near.preferredDuringSchedulingIgnoredDuringExecution if near else ())),
        *((each, -1) for each in (away.preferredDuringSchedulingIgnoredDuringExecution if away else ())),
    ]
    return (
        tuple(_term(each, namespace) for each in (near.requiredDuringSchedulingIgnoredDuringExecution if near else ())),
        tuple(_term(each, namespace) for each in (away.requiredDuringSchedulingIgnoredDuringExecution if away else ())),
        tuple((_term(each.podAffinityTerm, namespace), each.weight * sign) for each, sign in weighted),
    )


def _term(term: PodAffinityTerm, namespace: str) -> PodTerm:
    # Without namespaces and without a selector of them, the pod's own (framework.getNamespacesFromPodAffinityTerm).
    own = () if term.namespaces or term.namespaceSelector is not None else (namespace,)
    return PodTerm(
        term.topologyKey,
        selector_of(term.labelSelector),
        frozenset((*term.namespaces, *own)),
        selector_of(term.namespaceSelector),
    )


def _spread(constraint: TopologySpreadConstraint, labels: Mapping[str, str]) -> Spread:
    selector = selector_of(constraint.labelSelector)
    same = [Requirement(key, "In", frozenset((labels[key],))) for key in constraint.matchLabelKeys if key in labels]
    return Spread(
        constraint.topologyKey,
        constraint.maxSkew,
        Selector((*selector.requirements, *(each for each in same if each not in selector.requirements))),
        is_hard=constraint.whenUnsatisfiable == "DoNotSchedule",
        min_domains=constraint.minDomains or 1,
        heeds_affinity=constraint.nodeAffinityPolicy != "Ignore",
        heeds_taints=constraint.nodeTaintsPolicy == "Honor",
    )


def selector_of(selector: LabelSelector | None) -> Selector:
    """What a label selector selects: an absent one nothing, and so one that cannot be read."""
    if selector is None:
        return NOTHING
    try:
        return from_label_selector(selector)
    except UsageError:
        return NOTHING
