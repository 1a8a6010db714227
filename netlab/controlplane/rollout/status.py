"""A Deployment's status: its counts, its conditions, and when its progress deadline is due (progress.go)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from netlab.api.apps_types import Deployment, DeploymentStatus, ReplicaSet
from netlab.api.meta_types import Condition
from netlab.controlplane.cluster import condition_of, parse_time
from netlab.controlplane.rollout.sizes import bounds, replicas_of

_NO_DEADLINE = 2**31 - 1  # what upstream stores for "none"


def counts(deployment: Deployment, new: ReplicaSet | None, owned: Sequence[ReplicaSet]) -> DeploymentStatus:
    """The numbers of a status: of the pods that its ReplicaSets report."""
    available = sum(rs.status.availableReplicas for rs in owned)
    return DeploymentStatus(
        observedGeneration=deployment.metadata.generation,
        replicas=sum(rs.status.replicas or 0 for rs in owned),
        updatedReplicas=(new.status.replicas or 0) if new is not None else 0,
        readyReplicas=sum(rs.status.readyReplicas for rs in owned),
        availableReplicas=available,
        unavailableReplicas=max(0, sum(replicas_of(rs) for rs in owned) - available),
        collisionCount=deployment.status.collisionCount,
    )


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Whether all pods have the current template and are available."""
    replicas = replicas_of(deployment)
    return status.updatedReplicas == status.replicas == status.availableReplicas == replicas


def status_of(
    deployment: Deployment,
    new: ReplicaSet | None,
    owned: Sequence[ReplicaSet],
    created: ReplicaSet | None,
    now: datetime.datetime,
) -> DeploymentStatus:
    """The whole status; `created` is the ReplicaSet that this step creates."""
    status = counts(deployment, new, owned)
    conditions = _Conditions(deployment.status.conditions, now)
    if status.availableReplicas >= replicas_of(deployment) - bounds(deployment)[1]:
        conditions.put("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        conditions.put("Available", "False", "MinimumReplicasUnavailable", message)
    _put_progress(conditions, deployment, status, new, created, now)
    failures = (condition_of(rs.status.conditions, "ReplicaFailure") for rs in reversed(owned))
    failure = next((each for each in failures if each is not None), None)
    if failure is not None:
        conditions.put("ReplicaFailure", failure.status, failure.reason, failure.message)
    else:
        conditions.by_type.pop("ReplicaFailure", None)
    status.conditions = list(conditions.by_type.values())
    return status


def sync_after(deployment: Deployment, status: DeploymentStatus, now: datetime.datetime) -> float | None:
    """Seconds until the progress deadline must be checked; None if there is nothing to wait for."""
    progressing = condition_of(status.conditions, "Progressing")
    if progressing is None or deployment.spec.paused:
        return None
    left = _seconds_left(deployment, progressing, now)
    return None if math.isinf(left) else max(left, 0) + 1


class _Conditions:
    def __init__(self, conditions: Sequence[Condition], now: datetime.datetime) -> None:
        self.by_type = {each.type: each for each in conditions}
        self._moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, kind: str, status: str, reason: str, message: str, *, afresh: bool = False) -> None:
        """Set a condition; its lastUpdateTime moves with a change, or with `afresh` on every call."""
        seen = self.by_type.get(kind)
        if seen is not None and not afresh and (seen.status, seen.reason, seen.message) == (status, reason, message):
            return
        turned = seen.lastTransitionTime if seen is not None and seen.status == status else self._moment
        self.by_type[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            lastUpdateTime=self._moment,
            lastTransitionTime=turned,
        )


def _put_progress(
    conditions: _Conditions,
    deployment: Deployment,
    status: DeploymentStatus,
    new: ReplicaSet | None,
    created: ReplicaSet | None,
    now: datetime.datetime,
) -> None:
    if _deadline(deployment) is None:
        conditions.by_type.pop("Progressing", None)
        return
    seen = conditions.by_type.get("Progressing")
    reason = seen.reason if seen is not None else ""
    subject = f'ReplicaSet "{new.metadata.name}"' if new is not None else "Deployment"
    if deployment.spec.paused:
        if reason not in ("DeploymentPaused", "ProgressDeadlineExceeded"):
            conditions.put("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    elif reason == "DeploymentPaused":
        conditions.put("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
    elif created is not None:
        message = f'Created new replica set "{created.metadata.name}"'
        conditions.put("Progressing", "True", "NewReplicaSetCreated", message, afresh=True)
    elif reason == "NewReplicaSetAvailable" and status.replicas == status.updatedReplicas:
        pass  # already complete: a pod that fails now is not a rollout
    elif new is not None and is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        conditions.put("Progressing", "True", "NewReplicaSetAvailable", message, afresh=True)
    elif seen is None or _has_progressed(deployment.status, status):
        conditions.put("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", afresh=True)
    elif _seconds_left(deployment, seen, now) <= 0:
        conditions.put("Progressing", "False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing.")


def _has_progressed(was: DeploymentStatus, status: DeploymentStatus) -> bool:
    return (
        status.updatedReplicas > was.updatedReplicas
        or status.replicas - status.updatedReplicas < was.replicas - was.updatedReplicas
        or status.readyReplicas > was.readyReplicas
        or status.availableReplicas > was.availableReplicas
    )


def _deadline(deployment: Deployment) -> int | None:
    deadline = deployment.spec.progressDeadlineSeconds
    return None if deadline == _NO_DEADLINE else deadline


def _seconds_left(deployment: Deployment, progressing: Condition, now: datetime.datetime) -> float:
    deadline = _deadline(deployment)
    waits = progressing.reason in ("NewReplicaSetCreated", "ReplicaSetUpdated", "DeploymentResumed")
    if deadline is None or not waits or progressing.lastUpdateTime is None:
        return math.inf
    return deadline - (now - parse_time(progressing.lastUpdateTime)).total_seconds()
