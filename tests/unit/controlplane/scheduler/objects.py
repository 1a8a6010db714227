"""Objects for the scheduler's tests: a cache of nodes with pods, and the terms of pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from netlab.api.core_types import (
    Affinity,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PreferredSchedulingTerm,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
)
from netlab.api.meta_types import LabelSelector
from netlab.api.selectors import EVERYTHING, from_labels
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.decision import Unschedulable, choose
from netlab.controlplane.scheduler.podinfo import PodInfo

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

NAMESPACES: Mapping[str, Mapping[str, str]] = {"default": {"team": "a"}, "other": {"team": "b"}, "third": {}}


def cache(nodes: Iterable[Node], pods: Iterable[Pod] = (), spread_by: str = "") -> Cache:
    """The nodes, and the pods that have a node; those with the label `spread_by` belong to one Service."""

    def selects(pod: PodInfo):  # type: ignore[no-untyped-def]
        value = pod.labels.get(spread_by)
        return from_labels({spread_by: value}) if value is not None else EVERYTHING

    made = Cache(lambda: NAMESPACES, selects)
    for each in nodes:
        made.set_node(each)
    for pod in pods:
        made.place(pod, pod.spec.nodeName)
    return made


def select(on: Cache, pod: Pod) -> str | Unschedulable:
    return choose(PodInfo.of(pod), on)


def schedule(on: Cache, pods: Iterable[Pod]) -> Counter[str]:
    """Place the pods one after the other; on how many of them each node has."""
    chosen: Counter[str] = Counter()
    for pod in pods:
        choice = select(on, pod)
        assert isinstance(choice, str), choice
        on.place(pod, choice)
        chosen[choice] += 1
    return chosen


Expression = tuple[str, str, list[str]]


def node_term(*expressions: Expression, fields: tuple[Expression, ...] = ()) -> NodeSelectorTerm:
    return NodeSelectorTerm(
        matchExpressions=[NodeSelectorRequirement(key=k, operator=o, values=v) for k, o, v in expressions],
        matchFields=[NodeSelectorRequirement(key=k, operator=o, values=v) for k, o, v in fields],
    )


def requires(*terms: NodeSelectorTerm) -> Affinity:
    required = NodeSelector(nodeSelectorTerms=list(terms))
    return Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))


def named(*names: str) -> Affinity:
    return requires(*(node_term(fields=(("metadata.name", "In", [name]),)) for name in names))


def prefers(*terms: tuple[int, NodeSelectorTerm]) -> Affinity:
    listed = [PreferredSchedulingTerm(weight=weight, preference=term) for weight, term in terms]
    return Affinity(nodeAffinity=NodeAffinity(preferredDuringSchedulingIgnoredDuringExecution=listed))


def term(
    labels: dict[str, str] | None,
    key: str = HOST,
    namespaces: Iterable[str] = (),
    namespace_labels: dict[str, str] | None = None,
) -> PodAffinityTerm:
    return PodAffinityTerm(
        topologyKey=key,
        labelSelector=LabelSelector(matchLabels=labels) if labels is not None else None,
        namespaces=list(namespaces),
        namespaceSelector=LabelSelector(matchLabels=namespace_labels) if namespace_labels is not None else None,
    )


def near(*terms: PodAffinityTerm, weight: int = 0) -> Affinity:
    if weight:
        weighted = [WeightedPodAffinityTerm(weight=weight, podAffinityTerm=each) for each in terms]
        return Affinity(podAffinity=PodAffinity(preferredDuringSchedulingIgnoredDuringExecution=weighted))
    return Affinity(podAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=list(terms)))


def away(*terms: PodAffinityTerm, weight: int = 0) -> Affinity:
    if weight:
        weighted = [WeightedPodAffinityTerm(weight=weight, podAffinityTerm=each) for each in terms]
        return Affinity(podAntiAffinity=PodAntiAffinity(preferredDuringSchedulingIgnoredDuringExecution=weighted))
    return Affinity(podAntiAffinity=PodAntiAffinity(requiredDuringSchedulingIgnoredDuringExecution=list(terms)))


def spread(
    key: str = ZONE,
    skew: int = 1,
    labels: dict[str, str] | None = None,
    *,
    is_soft: bool = False,
    domains: int | None = None,
    affinity: str | None = None,
    taints: str | None = None,
    same: Iterable[str] = (),
) -> TopologySpreadConstraint:
    return TopologySpreadConstraint(
        maxSkew=skew,
        topologyKey=key,
        whenUnsatisfiable="ScheduleAnyway" if is_soft else "DoNotSchedule",
        labelSelector=LabelSelector(matchLabels=labels if labels is not None else {"app": "web"}),
        minDomains=domains,
        nodeAffinityPolicy=affinity,
        nodeTaintsPolicy=taints,
        matchLabelKeys=list(same),
    )
