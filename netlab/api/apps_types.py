"""The workloads of apps/v1, and v1 ReplicationController, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

from typing import Any

import msgspec

from netlab.api.core_types import PodSpec
from netlab.api.meta_types import (
    Condition,
    Int64,
    IntOrString,
    LabelSelector,
    Object,
    ObjectMeta,
    Struct,
)


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


# --- ReplicationController -------------------------------------------------------------------------------------------


class ReplicationControllerSpec(Struct):
    """v1.ReplicationControllerSpec; without a selector it is the template's labels."""

    template: PodTemplateSpec | None = None
    selector: dict[str, str] = {}
    replicas: int | None = None
    minReadySeconds: int = 0


class ReplicationControllerStatus(Struct):
    """v1.ReplicationControllerStatus."""

    # `replicas` has no omitempty upstream: it is always sent.
    replicas: int | None = None
    fullyLabeledReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    observedGeneration: Int64 = 0
    conditions: list[Condition] = []


class ReplicationController(Object, kw_only=True):
    """v1.ReplicationController: what ReplicaSets were before."""

    spec: ReplicationControllerSpec = msgspec.field(default_factory=ReplicationControllerSpec)
    status: ReplicationControllerStatus = msgspec.field(default_factory=ReplicationControllerStatus)


# --- ControllerRevision ----------------------------------------------------------------------------------------------


class ControllerRevision(Object):
    """apps/v1.ControllerRevision: a workload's template as it was; data is the patch that brings it back."""

    data: Any = None
    revision: Int64 = 0


# --- DaemonSet -------------------------------------------------------------------------------------------------------


class RollingUpdateDaemonSet(Struct):
    """apps/v1.RollingUpdateDaemonSet: a number of pods or a percentage of the nodes."""

    maxUnavailable: IntOrString | None = None
    maxSurge: IntOrString | None = None


class DaemonSetUpdateStrategy(Struct):
    """apps/v1.DaemonSetUpdateStrategy; type is RollingUpdate or OnDelete."""

    type: str = ""
    rollingUpdate: RollingUpdateDaemonSet | None = None


class DaemonSetSpec(Struct):
    """apps/v1.DaemonSetSpec."""

    selector: LabelSelector
    template: PodTemplateSpec
    updateStrategy: DaemonSetUpdateStrategy = msgspec.field(default_factory=DaemonSetUpdateStrategy)
    minReadySeconds: int = 0
    revisionHistoryLimit: int | None = None


class DaemonSetStatus(Struct):
    """apps/v1.DaemonSetStatus."""

    # Without omitempty upstream: they are always sent.
    currentNumberScheduled: int | None = None
    numberMisscheduled: int | None = None
    desiredNumberScheduled: int | None = None
    numberReady: int | None = None
    observedGeneration: Int64 = 0
    updatedNumberScheduled: int = 0
    numberAvailable: int = 0
    numberUnavailable: int = 0
    collisionCount: int | None = None
    conditions: list[Condition] = []


class DaemonSet(Object, kw_only=True):
    """apps/v1.DaemonSet."""

    spec: DaemonSetSpec
    status: DaemonSetStatus = msgspec.field(default_factory=DaemonSetStatus)


# --- StatefulSet -----------------------------------------------------------------------------------------------------


class RollingUpdateStatefulSetStrategy(Struct):
    """apps/v1.RollingUpdateStatefulSetStrategy: pods whose ordinal is less than the partition stay as they are."""

    partition: int | None = None
    maxUnavailable: IntOrString | None = None


class StatefulSetUpdateStrategy(Struct):
    """apps/v1.StatefulSetUpdateStrategy; type is RollingUpdate or OnDelete."""

    type: str = ""
    rollingUpdate: RollingUpdateStatefulSetStrategy | None = None


class StatefulSetOrdinals(Struct):
    """apps/v1.StatefulSetOrdinals."""

    start: int = 0


class StatefulSetRetentionPolicy(Struct):
    """apps/v1.StatefulSetPersistentVolumeClaimRetentionPolicy: Retain or Delete, of a set's claims and of a pod's."""

    whenDeleted: str = ""
    whenScaled: str = ""


class PersistentVolumeClaim(Object):
    """v1.PersistentVolumeClaim, of which nothing is known but its metadata."""

    spec: Any = None
    status: Any = None


class StatefulSetSpec(Struct):
    """apps/v1.StatefulSetSpec; podManagementPolicy is OrderedReady or Parallel."""

    selector: LabelSelector
    template: PodTemplateSpec
    serviceName: str = ""
    replicas: int | None = None
    podManagementPolicy: str = ""
    updateStrategy: StatefulSetUpdateStrategy = msgspec.field(default_factory=StatefulSetUpdateStrategy)
    minReadySeconds: int = 0
    revisionHistoryLimit: int | None = None
    ordinals: StatefulSetOrdinals | None = None
    volumeClaimTemplates: list[PersistentVolumeClaim] = []
    persistentVolumeClaimRetentionPolicy: StatefulSetRetentionPolicy = msgspec.field(
        default_factory=StatefulSetRetentionPolicy
    )


class StatefulSetStatus(Struct):
    """apps/v1.StatefulSetStatus."""

    # `replicas` and `availableReplicas` have no omitempty upstream: they are always sent.
    replicas: int | None = None
    availableReplicas: int | None = None
    observedGeneration: Int64 = 0
    readyReplicas: int = 0
    currentReplicas: int = 0
    updatedReplicas: int = 0
    currentRevision: str = ""
    updateRevision: str = ""
    collisionCount: int | None = None
    conditions: list[Condition] = []


class StatefulSet(Object, kw_only=True):
    """apps/v1.StatefulSet."""

    spec: StatefulSetSpec
    status: StatefulSetStatus = msgspec.field(default_factory=StatefulSetStatus)
