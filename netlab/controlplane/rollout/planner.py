"""One step of a Deployment's rollout, as a plan of what to create, change and delete."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from collections.abc import Sequence

from netlab.api.apps_types import Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec
from netlab.api.meta_types import LabelSelector, ObjectMeta
from netlab.controlplane.cluster import controller_reference
from netlab.controlplane.rollout import status
from netlab.controlplane.rollout.sizes import DESIRED_REPLICAS, MAX_REPLICAS, Sizes, number, replicas_of
from netlab.controlplane.rollout.templates import HASH_LABEL, split, template_hash

REVISION = "deployment.kubernetes.io/revision"
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED_REPLICAS, MAX_REPLICAS}

DEFAULT_HISTORY_LIMIT = 10


@dataclasses.dataclass(frozen=True)
class Change:
    """A ReplicaSet that needs a new size, annotations or minReadySeconds."""

    replica_set: ReplicaSet
    replicas: int
    annotations: dict[str, str]
    min_ready_seconds: int


@dataclasses.dataclass
class Plan:
    """What one sync of a Deployment does."""

    status: DeploymentStatus
    revision: str = ""
    create: ReplicaSet | None = None
    changes: list[Change] = dataclasses.field(default_factory=list)
    delete: list[ReplicaSet] = dataclasses.field(default_factory=list)
    sync_after: float | None = None
    """Seconds until the progress deadline must be checked; None if there is nothing to wait for."""


def plan(deployment: Deployment, owned: Sequence[ReplicaSet], old_pods_run: bool, now: datetime.datetime) -> Plan:
    """What to do about a Deployment, given the ReplicaSets it owns.

    `old_pods_run` says whether pods with another template than the current one still exist (for Recreate).
    """
    new, old = split(deployment, owned)
    everyone = [*old, *([new] if new is not None else [])]
    if deployment.metadata.deletionTimestamp is not None:
        return Plan(status.status_of(deployment, new, everyone, None, now))
    sizes = Sizes(deployment, new, old)
    revision = _next_revision(new, old)
    size = sizes.step(old_pods_run)
    create = None if size is None else _replica_set(deployment, size, revision, sizes)
    complete = new is not None and status.is_complete(deployment, status.counts(deployment, new, everyone))
    reported = status.status_of(deployment, new, everyone, create, now)
    return Plan(
        status=reported,
        revision=revision if new is not None or create is not None else "",
        create=create,
        changes=_changes(deployment, new, everyone, revision, sizes),
        delete=_outdated(deployment, old, sizes) if deployment.spec.paused or complete else [],
        sync_after=status.sync_after(deployment, reported, now),
    )


def _next_revision(new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> str:
    following = max((_revision(rs) for rs in old), default=0) + 1
    if new is not None and _revision(new) >= following:
        return new.metadata.annotations[REVISION]
    return str(following)


def _replica_set(deployment: Deployment, replicas: int, revision: str, sizes: Sizes) -> ReplicaSet:
    spec = deployment.spec
    hashed = template_hash(spec.template, deployment.status.collisionCount or 0)
    template = copy.deepcopy(spec.template)
    template.metadata.labels = {**template.metadata.labels, HASH_LABEL: hashed}
    return ReplicaSet(
        metadata=ObjectMeta(
            name=f"{deployment.metadata.name}-{hashed}",
            namespace=deployment.metadata.namespace,
            labels=dict(template.metadata.labels),
            annotations={**_copied(deployment), REVISION: revision, **_size_annotations(sizes)},
            ownerReferences=[controller_reference(deployment)],
        ),
        spec=ReplicaSetSpec(
            replicas=replicas,
            minReadySeconds=spec.minReadySeconds,
            selector=LabelSelector(
                matchLabels={**spec.selector.matchLabels, HASH_LABEL: hashed},
                matchExpressions=spec.selector.matchExpressions,
            ),
            template=template,
        ),
    )


def _changes(
    deployment: Deployment, new: ReplicaSet | None, owned: Sequence[ReplicaSet], revision: str, sizes: Sizes
) -> list[Change]:
    changes = []
    for rs in owned:
        annotations, min_ready = dict(rs.metadata.annotations), rs.spec.minReadySeconds
        if rs is new:
            annotations |= {**_copied(deployment), REVISION: revision}
            min_ready = deployment.spec.minReadySeconds
        if rs.metadata.uid in sizes.annotated:
            annotations |= _size_annotations(sizes)
        change = Change(rs, sizes.of(rs), annotations, min_ready)
        if change != Change(rs, replicas_of(rs), rs.metadata.annotations, rs.spec.minReadySeconds):
            changes.append(change)
    return changes


def _copied(deployment: Deployment) -> dict[str, str]:
    return {k: v for k, v in deployment.metadata.annotations.items() if k not in _NOT_COPIED}


def _size_annotations(sizes: Sizes) -> dict[str, str]:
    return {DESIRED_REPLICAS: str(sizes.replicas), MAX_REPLICAS: str(sizes.replicas + sizes.surge)}


def _outdated(deployment: Deployment, old: Sequence[ReplicaSet], sizes: Sizes) -> list[ReplicaSet]:
    limit = deployment.spec.revisionHistoryLimit
    limit = DEFAULT_HISTORY_LIMIT if limit is None else limit
    idle = [
        rs
        for rs in old
        if rs.metadata.deletionTimestamp is None
        and sizes.of(rs) == replicas_of(rs) == (rs.status.replicas or 0) == 0
        and rs.status.observedGeneration >= rs.metadata.generation
    ]
    idle.sort(key=_revision)
    return idle[: max(0, len(idle) - limit)]


def _revision(rs: ReplicaSet) -> int:
    return number(rs.metadata.annotations.get(REVISION)) or 0
