"""What a Deployment's ReplicaSets should be: upstream's deployment controller as a pure function.

The arithmetic follows kubernetes pkg/controller/deployment (rolling.go, recreate.go, sync.go, progress.go): one sync
either scales the new ReplicaSet up or the old ones down, and the next sync, triggered by that change, goes on.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import msgspec

from netlab.api.apps_types import Deployment, DeploymentStatus, PodTemplateSpec, ReplicaSet, ReplicaSetSpec
from netlab.api.meta_types import Condition, IntOrString, LabelSelector, ObjectMeta
from netlab.controlplane.cluster import condition_of, controller_reference, parse_time

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED_REPLICAS, MAX_REPLICAS}

DEFAULT_HISTORY_LIMIT = 10
_NO_DEADLINE = 2**31 - 1  # what upstream stores for "none"

# The letters of upstream's generated names: no vowels, so that they form no words (apimachinery util/rand).
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


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
    return _Rollout(deployment, owned, now).plan(old_pods_run)


def split(deployment: Deployment, owned: Iterable[ReplicaSet]) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
    """The ReplicaSet of the current template, the oldest if there are several, and the others, oldest first."""
    ordered = sorted(owned, key=lambda rs: (rs.metadata.creationTimestamp or "", rs.metadata.name))
    wanted = _canonical(deployment.spec.template)
    new = next((rs for rs in ordered if _canonical(rs.spec.template) == wanted), None)
    return new, [rs for rs in ordered if rs is not new]


def same_template(one: PodTemplateSpec, other: PodTemplateSpec) -> bool:
    """Whether two templates are equal except for the hash label."""
    return _canonical(one) == _canonical(other)


def template_hash(template: PodTemplateSpec, collisions: int) -> str:
    """The value of pod-template-hash: 32 bits of the template, varied by the number of collisions."""
    digest = hashlib.blake2b(_canonical(template) + str(collisions or "").encode(), digest_size=4).digest()
    return "".join(_SAFE[ord(digit) % len(_SAFE)] for digit in str(int.from_bytes(digest, "big")))


def bounds(deployment: Deployment) -> tuple[int, int]:
    """maxSurge and maxUnavailable as numbers of pods: percentages are rounded up and down; never both 0."""
    replicas = _replicas(deployment)
    if deployment.spec.strategy.type == "Recreate":
        return 0, 0
    rolling = deployment.spec.strategy.rollingUpdate
    surge = _scaled(rolling.maxSurge if rolling else None, replicas, math.ceil)
    unavailable = _scaled(rolling.maxUnavailable if rolling else None, replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


class _Rollout:
    def __init__(self, deployment: Deployment, owned: Sequence[ReplicaSet], now: datetime.datetime) -> None:
        self.deployment = deployment
        self.spec = deployment.spec
        self.replicas = _replicas(deployment)
        self.surge, self.unavailable = bounds(deployment)
        self.now = now
        self.new, self.old = split(deployment, owned)
        self.all = [*self.old, *([self.new] if self.new is not None else [])]
        self.size = {rs.metadata.uid: _replicas(rs) for rs in self.all}
        self.annotated: set[str] = set()
        self.revision = str(max((_revision(rs) for rs in self.old), default=0) + 1)
        if self.new is not None and _revision(self.new) >= int(self.revision):
            self.revision = self.new.metadata.annotations[REVISION]

    def plan(self, old_pods_run: bool) -> Plan:
        create: ReplicaSet | None = None
        if self.deployment.metadata.deletionTimestamp is not None:
            return Plan(status=self._status(), revision="")
        if self.spec.paused or self._is_scaling():
            self._scale()
        elif self.spec.strategy.type == "Recreate":
            create = self._recreate(old_pods_run)
        else:
            create = self._roll()
        settled = self.spec.paused or self._is_complete(self._counts())
        status = self._status(create)
        return Plan(
            status=status,
            revision=self.revision if self.new is not None or create is not None else "",
            create=create,
            changes=self._changes(),
            delete=self._outdated() if settled else [],
            sync_after=self._sync_after(status),
        )

    # --- sizes

    def _is_scaling(self) -> bool:
        wanted = str(self.replicas)
        return any(rs.metadata.annotations.get(DESIRED_REPLICAS, wanted) != wanted for rs in self._active(self.all))

    def _roll(self) -> ReplicaSet | None:
        if self.new is None:
            return self._new_replica_set(self._room_for_new(0))
        uid = self.new.metadata.uid
        before = self.size[uid]
        self._set(self.new, self.replicas if before > self.replicas else self._room_for_new(before))
        if self.size[uid] == before:
            self._scale_old_down()
        return None

    def _room_for_new(self, size: int) -> int:
        room = self.replicas + self.surge - sum(self.size.values())
        return size + max(0, min(room, self.replicas - size))

    def _scale_old_down(self) -> None:
        assert self.new is not None
        if not self._active(self.old):
            return
        least = self.replicas - self.unavailable
        new_unavailable = self.size[self.new.metadata.uid] - self.new.status.availableReplicas
        # Removing unavailable pods costs nothing: the unhealthy old ones go first.
        budget = sum(self.size.values()) - least - new_unavailable
        for rs in self._active(self.old):
            if budget <= 0:
                break
            unhealthy = max(0, min(budget, self.size[rs.metadata.uid] - rs.status.availableReplicas))
            self._set(rs, self.size[rs.metadata.uid] - unhealthy)
            budget -= unhealthy
        budget_healthy = sum(rs.status.availableReplicas for rs in self.all) - least
        for rs in self._active(self.old):
            if budget_healthy <= 0 or budget <= 0:
                break
            fewer = min(self.size[rs.metadata.uid], budget_healthy, budget)
            self._set(rs, self.size[rs.metadata.uid] - fewer)
            budget_healthy -= fewer
            budget -= fewer

    def _recreate(self, old_pods_run: bool) -> ReplicaSet | None:
        if active := self._active(self.old):
            for rs in active:
                self._set(rs, 0)
        elif not old_pods_run:
            if self.new is None:
                return self._new_replica_set(self.replicas)
            self._set(self.new, self.replicas)
        return None

    def _scale(self) -> None:
        """Follow a change to spec.replicas, without continuing the rollout."""
        active = self._active(self.all)
        self.annotated |= {rs.metadata.uid for rs in active}
        if len(active) <= 1:
            only = active[0] if active else self.new or (self.old[-1] if self.old else None)
            if only is not None:
                self._set(only, self.replicas)
        elif self.new is not None and self._is_saturated(self.new):
            for rs in self._active(self.old):
                self._set(rs, 0)
        elif self.spec.strategy.type != "Recreate":
            self._scale_in_proportion(active)

    def _scale_in_proportion(self, active: list[ReplicaSet]) -> None:
        allowed = self.replicas + self.surge if self.replicas > 0 else 0
        to_add = allowed - sum(self.size[rs.metadata.uid] for rs in active)
        if not to_add:
            return
        # The largest take most; among equals, the newest when growing and the oldest when shrinking.
        active = sorted(active, key=lambda rs: rs.metadata.creationTimestamp or "", reverse=to_add > 0)
        active.sort(key=lambda rs: self.size[rs.metadata.uid], reverse=True)
        left = to_add
        for rs in active:
            share = self._share(rs)
            share = min(share, left) if to_add > 0 else max(share, left)
            left -= share
            self._set(rs, max(0, self.size[rs.metadata.uid] + share))
        # The remainder from rounding goes to the largest.
        self._set(active[0], max(0, self.size[active[0].metadata.uid] + left))

    def _share(self, rs: ReplicaSet) -> int:
        size = self.size[rs.metadata.uid]
        if self.replicas == 0:
            return -size
        former = _number(rs.metadata.annotations.get(MAX_REPLICAS)) or self.deployment.status.replicas
        if not former:
            return 0
        return math.floor(size * (self.replicas + self.surge) / former + 0.5) - size

    def _is_saturated(self, rs: ReplicaSet) -> bool:
        desired = _number(rs.metadata.annotations.get(DESIRED_REPLICAS))
        return _replicas(rs) == desired == self.replicas == rs.status.availableReplicas

    def _set(self, rs: ReplicaSet, size: int) -> None:
        if self.size[rs.metadata.uid] != size:
            self.size[rs.metadata.uid] = size
            self.annotated.add(rs.metadata.uid)

    def _active(self, sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
        return [rs for rs in sets if self.size[rs.metadata.uid] > 0]

    # --- objects

    def _new_replica_set(self, replicas: int) -> ReplicaSet:
        hashed = template_hash(self.spec.template, self.deployment.status.collisionCount or 0)
        template = copy.deepcopy(self.spec.template)
        template.metadata.labels = {**template.metadata.labels, HASH_LABEL: hashed}
        selector = self.spec.selector
        return ReplicaSet(
            metadata=ObjectMeta(
                name=f"{self.deployment.metadata.name}-{hashed}",
                namespace=self.deployment.metadata.namespace,
                labels=dict(template.metadata.labels),
                annotations={**self._copied(), REVISION: self.revision, **self._size_annotations()},
                ownerReferences=[controller_reference(self.deployment)],
            ),
            spec=ReplicaSetSpec(
                replicas=replicas,
                minReadySeconds=self.spec.minReadySeconds,
                selector=LabelSelector(
                    matchLabels={**selector.matchLabels, HASH_LABEL: hashed},
                    matchExpressions=selector.matchExpressions,
                ),
                template=template,
            ),
        )

    def _changes(self) -> list[Change]:
        changes = []
        for rs in self.all:
            annotations, min_ready = dict(rs.metadata.annotations), rs.spec.minReadySeconds
            if rs is self.new:
                annotations |= {**self._copied(), REVISION: self.revision}
                min_ready = self.spec.minReadySeconds
            if rs.metadata.uid in self.annotated:
                annotations |= self._size_annotations()
            change = Change(rs, self.size[rs.metadata.uid], annotations, min_ready)
            if change != Change(rs, _replicas(rs), rs.metadata.annotations, rs.spec.minReadySeconds):
                changes.append(change)
        return changes

    def _copied(self) -> dict[str, str]:
        return {k: v for k, v in self.deployment.metadata.annotations.items() if k not in _NOT_COPIED}

    def _size_annotations(self) -> dict[str, str]:
        return {DESIRED_REPLICAS: str(self.replicas), MAX_REPLICAS: str(self.replicas + self.surge)}

    def _outdated(self) -> list[ReplicaSet]:
        limit = self.spec.revisionHistoryLimit
        limit = DEFAULT_HISTORY_LIMIT if limit is None else limit
        idle = [
            rs
            for rs in self.old
            if rs.metadata.deletionTimestamp is None
            and self.size[rs.metadata.uid] == _replicas(rs) == (rs.status.replicas or 0) == 0
            and rs.status.observedGeneration >= rs.metadata.generation
        ]
        idle.sort(key=_revision)
        return idle[: max(0, len(idle) - limit)]

    # --- status

    def _counts(self) -> DeploymentStatus:
        available = sum(rs.status.availableReplicas for rs in self.all)
        return DeploymentStatus(
            observedGeneration=self.deployment.metadata.generation,
            replicas=sum(rs.status.replicas or 0 for rs in self.all),
            updatedReplicas=(self.new.status.replicas or 0) if self.new is not None else 0,
            readyReplicas=sum(rs.status.readyReplicas for rs in self.all),
            availableReplicas=available,
            unavailableReplicas=max(0, sum(_replicas(rs) for rs in self.all) - available),
            collisionCount=self.deployment.status.collisionCount,
        )

    def _status(self, created: ReplicaSet | None = None) -> DeploymentStatus:
        status = self._counts()
        conditions = {c.type: c for c in self.deployment.status.conditions}
        if status.availableReplicas >= self.replicas - self.unavailable:
            message = "Deployment has minimum availability."
            self._put(conditions, "Available", "True", "MinimumReplicasAvailable", message)
        else:
            message = "Deployment does not have minimum availability."
            self._put(conditions, "Available", "False", "MinimumReplicasUnavailable", message)
        self._put_progress(conditions, status, created)
        failure = next(
            (c for rs in reversed(self.all) if (c := condition_of(rs.status.conditions, "ReplicaFailure"))), None
        )
        if failure is not None:
            self._put(conditions, "ReplicaFailure", failure.status, failure.reason, failure.message)
        else:
            conditions.pop("ReplicaFailure", None)
        status.conditions = list(conditions.values())
        return status

    def _put_progress(
        self, conditions: dict[str, Condition], status: DeploymentStatus, created: ReplicaSet | None
    ) -> None:
        if self._deadline() is None:
            conditions.pop("Progressing", None)
            return
        seen = conditions.get("Progressing")
        reason = seen.reason if seen is not None else ""
        subject = f'ReplicaSet "{self.new.metadata.name}"' if self.new is not None else "Deployment"
        if self.spec.paused:
            if reason not in ("DeploymentPaused", "ProgressDeadlineExceeded"):
                self._put(conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        elif reason == "DeploymentPaused":
            self._put(conditions, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
        elif created is not None:
            message = f'Created new replica set "{created.metadata.name}"'
            self._put(conditions, "Progressing", "True", "NewReplicaSetCreated", message, afresh=True)
        elif reason == "NewReplicaSetAvailable" and status.replicas == status.updatedReplicas:
            pass  # already complete: a pod that fails now is not a rollout
        elif self._is_complete(status):
            message = f"{subject} has successfully progressed."
            self._put(conditions, "Progressing", "True", "NewReplicaSetAvailable", message, afresh=True)
        elif self._has_progressed(status) or seen is None:
            message = f"{subject} is progressing."
            self._put(conditions, "Progressing", "True", "ReplicaSetUpdated", message, afresh=True)
        elif self._seconds_left(seen) <= 0:
            message = f"{subject} has timed out progressing."
            self._put(conditions, "Progressing", "False", "ProgressDeadlineExceeded", message)

    def _put(
        self,
        conditions: dict[str, Condition],
        kind: str,
        status: str,
        reason: str,
        message: str,
        *,
        afresh: bool = False,
    ) -> None:
        """Set a condition; its lastUpdateTime moves with a change, or with `afresh` on every call."""
        seen = conditions.get(kind)
        if seen is not None and not afresh and (seen.status, seen.reason, seen.message) == (status, reason, message):
            return
        moment = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        turned = seen.lastTransitionTime if seen is not None and seen.status == status else moment
        conditions[kind] = Condition(
            type=kind, status=status, reason=reason, message=message, lastUpdateTime=moment, lastTransitionTime=turned
        )

    def _is_complete(self, status: DeploymentStatus) -> bool:
        return status.updatedReplicas == status.replicas == status.availableReplicas == self.replicas and (
            self.new is not None
        )

    def _has_progressed(self, status: DeploymentStatus) -> bool:
        was = self.deployment.status
        return (
            status.updatedReplicas > was.updatedReplicas
            or status.replicas - status.updatedReplicas < was.replicas - was.updatedReplicas
            or status.readyReplicas > was.readyReplicas
            or status.availableReplicas > was.availableReplicas
        )

    def _deadline(self) -> int | None:
        deadline = self.spec.progressDeadlineSeconds
        return None if deadline == _NO_DEADLINE else deadline

    def _seconds_left(self, progressing: Condition) -> float:
        deadline = self._deadline()
        waits = progressing.reason in ("NewReplicaSetCreated", "ReplicaSetUpdated", "DeploymentResumed")
        if deadline is None or not waits or progressing.lastUpdateTime is None:
            return math.inf
        return deadline - (self.now - parse_time(progressing.lastUpdateTime)).total_seconds()

    def _sync_after(self, status: DeploymentStatus) -> float | None:
        progressing = condition_of(status.conditions, "Progressing")
        if progressing is None or self.spec.paused:
            return None
        left = self._seconds_left(progressing)
        return None if math.isinf(left) else max(left, 0) + 1


def _canonical(template: PodTemplateSpec) -> bytes:
    labels = {k: v for k, v in template.metadata.labels.items() if k != HASH_LABEL}
    meta = msgspec.structs.replace(template.metadata, labels=labels, creationTimestamp=None)
    return msgspec.json.encode(PodTemplateSpec(metadata=meta, spec=template.spec), order="sorted")


def _replicas(obj: Deployment | ReplicaSet) -> int:
    return 1 if obj.spec.replicas is None else obj.spec.replicas


def _revision(rs: ReplicaSet) -> int:
    return _number(rs.metadata.annotations.get(REVISION)) or 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def _scaled(value: IntOrString | None, total: int, rounded: Callable[[Fraction], int]) -> int:
    if value is None:
        value = "25%"
    if isinstance(value, int):
        return value
    # In whole numbers: 0.07 * 100 is 7.000000000000001, which would be rounded up to 8.
    percent = int(value.removesuffix("%"))
    return rounded(Fraction(percent * total, 100))
