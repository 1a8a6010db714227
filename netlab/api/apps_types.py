"""apps/v1 Deployment and ReplicaSet, with the field names of the Kubernetes API (1.31)."""

from __future__ import annotations

import msgspec

from netlab.api.core_types import PodSpec
from netlab.api.meta_types import Condition, Int64, IntOrString, LabelSelector, Object, ObjectMeta, Struct


class PodTemplateSpec(Struct):
    """v1.PodTemplateSpec."""

    spec: PodSpec
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class RollingUpdateDeployment(Struct):
    """apps/v1.RollingUpdateDeployment: a number of pods or a percentage of the replicas."""

    maxUnavailable: IntOrString | None = None
    maxSurge: IntOrString | None = None


class DeploymentStrategy(Struct):
    """apps/v1.DeploymentStrategy; type is RollingUpdate or Recreate."""

    type: str = ""
    rollingUpdate: RollingUpdateDeployment | None = None


class DeploymentSpec(Struct):
    """apps/v1.DeploymentSpec."""

    selector: LabelSelector
    template: PodTemplateSpec
    replicas: int | None = None
    strategy: DeploymentStrategy = msgspec.field(default_factory=DeploymentStrategy)
    minReadySeconds: int = 0
    revisionHistoryLimit: int | None = None
    paused: bool = False
    progressDeadlineSeconds: int | None = None


class DeploymentStatus(Struct):
    """apps/v1.DeploymentStatus."""

    observedGeneration: Int64 = 0
    replicas: int = 0
    updatedReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    unavailableReplicas: int = 0
    terminatingReplicas: int | None = None
    conditions: list[Condition] = []
    collisionCount: int | None = None


class Deployment(Object, kw_only=True):
    """apps/v1.Deployment."""

    spec: DeploymentSpec
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class ReplicaSetSpec(Struct):
    """apps/v1.ReplicaSetSpec."""

    selector: LabelSelector
    template: PodTemplateSpec
    replicas: int | None = None
    minReadySeconds: int = 0


class ReplicaSetStatus(Struct):
    """apps/v1.ReplicaSetStatus."""

    # `replicas` has no omitempty upstream: it is always sent.
    replicas: int | None = None
    fullyLabeledReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    terminatingReplicas: int | None = None
    observedGeneration: Int64 = 0
    conditions: list[Condition] = []


class ReplicaSet(Object, kw_only=True):
    """apps/v1.ReplicaSet."""

    spec: ReplicaSetSpec
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)
