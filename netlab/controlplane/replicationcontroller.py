"""The replication controller: what ReplicaSets do, for the kind that was there before them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from netlab.api.apps_types import (
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
    ReplicationController,
    ReplicationControllerStatus,
)
from netlab.api.meta_types import LabelSelector, Object
from netlab.api.resources import REPLICATIONCONTROLLERS, Resource
from netlab.api.selectors import Selector, from_labels
from netlab.controlplane.replicaset import ReplicaSetController


class ReplicationControllerController(ReplicaSetController):
    """ReplicationControllers to pods."""

    name = "replication-controller"
    resource: ClassVar[Resource[Any]] = REPLICATIONCONTROLLERS

    def selector_of(self, owner: Any) -> Selector:
        """What selects the pods of an object."""
        return from_labels(owner.spec.selector)

    def as_replica_set(self, found: Any) -> ReplicaSet:
        """The object as a ReplicaSet."""
        controller: ReplicationController = found
        assert controller.spec.template is not None  # which the server requires
        spec = ReplicaSetSpec(
            selector=LabelSelector(matchLabels=controller.spec.selector),
            template=controller.spec.template,
            replicas=controller.spec.replicas,
            minReadySeconds=controller.spec.minReadySeconds,
        )
        status = msgspec.convert(controller.status, ReplicaSetStatus, from_attributes=True)
        return ReplicaSet(metadata=controller.metadata, spec=spec, status=status)

    def with_status(self, found: Any, status: ReplicaSetStatus) -> Object:
        """The object with another status."""
        own = msgspec.convert(status, ReplicationControllerStatus, from_attributes=True)
        changed: ReplicationController = msgspec.structs.replace(found, status=own)
        return changed
