"""What the controllers share: one client, one informer for each resource, and indices over them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, ValuesView
from typing import Any, Generic, TypeVar

from netlab.api.apps_types import ReplicaSet
from netlab.api.client import Client
from netlab.api.core_types import Pod
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.informer import Informer
from netlab.api.meta_types import Condition, Object, OwnerReference
from netlab.api.progress import Progress
from netlab.api.resources import (
    CERTIFICATESIGNINGREQUESTS,
    CLUSTERROLES,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    JOBS,
    LEASES,
    LIMITRANGES,
    NAMESPACES,
    NODE_LEASES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    ROLEBINDINGS,
    ROLES,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    STATEFULSETS,
    STORED,
    Resource,
)
from netlab.controlplane.custom import CustomKinds

T = TypeVar("T", bound=Object)

_LATE: tuple[Resource[Any], ...] = (*STORED, SECRETS, LIMITRANGES, ROLES, ROLEBINDINGS)


class Index(Generic[T]):
    """The objects of an informer by values derived from them (client-go's Indexer)."""

    def __init__(self, informer: Informer[T], values: Callable[[T], Iterable[str]]) -> None:
        self._values = values
        self._objects: dict[str, dict[str, T]] = {}
        informer.on_change(self._apply)

    def get(self, value: str) -> ValuesView[T]:
        """The objects with that value. Do not keep it: it changes with the informer."""
        return self._objects.get(value, {}).values()

    def _apply(self, old: T | None, new: T | None) -> None:
        was = set(self._values(old)) if old is not None else set()
        becomes = set(self._values(new)) if new is not None else set()
        if old is not None:
            for value in was - becomes:
                bucket = self._objects[value]
                bucket.pop(old.key, None)
                if not bucket:
                    del self._objects[value]
        if new is not None:
            for value in becomes:
                self._objects.setdefault(value, {})[new.key] = new


class Cluster:
    """The cluster as the controllers see it: copies of the objects, kept up to date by `informers`, and the client."""

    def __init__(self, client: Client, progress: Progress | None = None) -> None:
        """`progress` learns how far the controllers have acted upon what the informers see."""
        self.client = client
        self.progress = progress or Progress()
        self.namespaces = Informer(client, NAMESPACES)
        self.nodes = Informer(client, NODES)
        self.pods = Informer(client, PODS)
        self.services = Informer(client, SERVICES)
        self.deployments = Informer(client, DEPLOYMENTS)
        self.replica_sets = Informer(client, REPLICASETS)
        self.replication_controllers = Informer(client, REPLICATIONCONTROLLERS)
        self.daemon_sets = Informer(client, DAEMONSETS)
        self.stateful_sets = Informer(client, STATEFULSETS)
        self.budgets = Informer(client, PODDISRUPTIONBUDGETS)
        self.jobs = Informer(client, JOBS)
        self.cron_jobs = Informer(client, CRONJOBS)
        self.revisions = Informer(client, CONTROLLERREVISIONS)
        self.endpoints = Informer(client, ENDPOINTS)
        self.endpoint_slices = Informer(client, ENDPOINTSLICES)
        self.node_leases = Informer(client, LEASES, NODE_LEASES)
        self.service_accounts = Informer(client, SERVICEACCOUNTS)
        self.config_maps = Informer(client, CONFIGMAPS)
        self.cluster_roles = Informer(client, CLUSTERROLES)
        self.quotas = Informer(client, RESOURCEQUOTAS)
        self.certificate_requests = Informer(client, CERTIFICATESIGNINGREQUESTS)
        self.informers: dict[Resource[Any], Informer[Any]] = {
            NAMESPACES: self.namespaces,
            NODES: self.nodes,
            PODS: self.pods,
            SERVICES: self.services,
            DEPLOYMENTS: self.deployments,
            REPLICASETS: self.replica_sets,
            REPLICATIONCONTROLLERS: self.replication_controllers,
            DAEMONSETS: self.daemon_sets,
            STATEFULSETS: self.stateful_sets,
            PODDISRUPTIONBUDGETS: self.budgets,
            JOBS: self.jobs,
            CRONJOBS: self.cron_jobs,
            CONTROLLERREVISIONS: self.revisions,
            ENDPOINTS: self.endpoints,
            ENDPOINTSLICES: self.endpoint_slices,
            LEASES: self.node_leases,
            SERVICEACCOUNTS: self.service_accounts,
            CONFIGMAPS: self.config_maps,
            CLUSTERROLES: self.cluster_roles,
            RESOURCEQUOTAS: self.quotas,
            CERTIFICATESIGNINGREQUESTS: self.certificate_requests,
        }
        self.stored: dict[Resource[Any], Informer[Any]] = {resource: Informer(client, resource) for resource in _LATE}
        """Of other kinds: for the garbage collector and for quotas, and not in the way of a lab's start."""
        self.custom = CustomKinds(client)
        """Those that no table has; for the same, and not in the way either."""
        self.progress.follow(list(self.informers.values()))
        # Made before any controller registers its handlers, so that handlers find the indices up to date.
        self.pods_by_node: Index[Pod] = Index(self.pods, lambda pod: [pod.spec.nodeName])
        self.pods_by_controller: Index[Pod] = Index(self.pods, _controller_or_orphan)
        self.pods_by_label: Index[Pod] = Index(self.pods, label_pairs)
        self.replica_sets_by_controller: Index[ReplicaSet] = Index(self.replica_sets, _controller_or_orphan)
        self.slices_by_service: Index[EndpointSlice] = Index(self.endpoint_slices, _service_of_slice)

    async def synced(self) -> None:
        """Wait until every resource has been listed."""
        for informer in self.informers.values():
            await informer.synced.wait()

    def is_terminating(self, namespace: str) -> bool:
        """Whether the namespace is being deleted, so that nothing can be created in it."""
        found = self.namespaces.items.get(namespace)
        return found is not None and found.metadata.deletionTimestamp is not None


def controller_of(obj: Object) -> OwnerReference | None:
    """The owner that manages the object (metav1.GetControllerOf); None for an orphan."""
    return next((ref for ref in obj.metadata.ownerReferences if ref.controller), None)


def orphans(namespace: str) -> str:
    """The value under which the objects of a namespace that no controller manages are indexed."""
    return f"{namespace}/"


def label_pairs(obj: Object) -> list[str]:
    """The values under which an object is indexed by its labels."""
    return [label_pair(obj.metadata.namespace, *item) for item in obj.metadata.labels.items()]


def label_pair(namespace: str, key: str, value: str) -> str:
    """The value under which the objects of a namespace with that label are indexed."""
    return f"{namespace}/{key}={value}"


def condition_of(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def is_ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is True."""
    condition = condition_of(pod.status.conditions, "Ready")
    return condition is not None and condition.status == "True"


def is_finished(pod: Pod) -> bool:
    """Whether all containers of the pod have terminated for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Whether the pod counts as a replica (upstream's IsPodActive)."""
    return not is_finished(pod) and pod.metadata.deletionTimestamp is None


def controller_reference(owner: Object) -> OwnerReference:
    """A reference to `owner` as the manager of an object (metav1.NewControllerRef)."""
    return OwnerReference(
        apiVersion=owner.apiVersion,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


def _controller_or_orphan(obj: Object) -> list[str]:
    owner = controller_of(obj)
    return [owner.uid if owner is not None else orphans(obj.metadata.namespace)]


def _service_of_slice(found: EndpointSlice) -> list[str]:
    service = found.metadata.labels.get(SERVICE_NAME_LABEL)
    return [f"{found.metadata.namespace}/{service}"] if service else []


def parse_time(stamp: str) -> datetime.datetime:
    """The time as metav1.Time writes it."""
    return datetime.datetime.fromisoformat(stamp)
