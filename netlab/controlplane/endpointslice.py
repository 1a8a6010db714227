"""The endpointslice controller: Services with a selector to EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netlab.api.core_types import ZONE_LABEL, Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.errors import ApiError
from netlab.api.meta_types import now
from netlab.api.resources import ENDPOINTSLICES, SERVICES
from netlab.controlplane.cluster import Cluster, Index, is_finished, is_ready, label_pair, label_pairs
from netlab.controlplane.controller import Controller
from netlab.controlplane.slices import MANAGED_BY, MANAGED_BY_LABEL, plan_slices


class EndpointSliceController(Controller):
    """Follows Services, their pods and the pods' nodes.

    The first change to a quiet Service is written at once; changes within the interval after it are written together:
    a thousand pods becoming ready must not cause a thousand writes of slices of a hundred.
    """

    name = "endpointslice-controller"
    resource = SERVICES
    workers = 4
    min_interval = 0.25

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        # A Service is found by one of its selector's labels; a pod's few labels then lead to few Services.
        self._by_selector: Index[Service] = Index(cluster.services, _first_pair)
        # Written but not seen yet; None is a deletion.
        self._written: dict[str, EndpointSlice | None] = {}
        # When a pod's change was first seen, for the annotation from which programming latency is measured.
        self._triggers: dict[str, str] = {}
        cluster.services.on_change(self._service_changed)
        cluster.pods.on_change(self._pod_changed)
        cluster.nodes.on_change(self._node_changed)
        cluster.endpoint_slices.on_change(self._slice_changed)

    def keys(self) -> Iterable[str]:
        """Every Service."""
        return list(self.cluster.services.items)

    async def reconcile(self, key: str) -> None:
        """Write the slices that differ. A Service that is gone takes its slices with it by garbage collection."""
        service = self.cluster.services.items.get(key)
        if (
            service is None
            or service.metadata.deletionTimestamp is not None
            or not service.spec.selector
            or service.spec.type == "ExternalName"
            or self.cluster.is_terminating(service.metadata.namespace)
        ):
            return
        trigger = self._triggers.pop(key, None) or now()
        plan = plan_slices(service, self._pods(service), self._slices(key), self._zone, trigger)
        # Additions and changes come before removals, so that no endpoint is missing in between.
        for made in plan.create:
            self._note(await self.client.create(ENDPOINTSLICES, made))
        for changed in plan.update:
            self._note(await self.client.update(ENDPOINTSLICES, changed))
        for dead in plan.delete:
            await self._delete(dead)

    async def _delete(self, dead: EndpointSlice) -> None:
        self._written[dead.key] = None
        try:
            await self.client.delete(ENDPOINTSLICES, dead.metadata.name, dead.metadata.namespace, uid=dead.metadata.uid)
        except ApiError as error:
            if error.reason != "NotFound":
                self._written.pop(dead.key, None)
                raise
        if dead.key not in self.cluster.endpoint_slices.items:
            self._written.pop(dead.key, None)

    def _pods(self, service: Service) -> list[Pod]:
        namespace, selector = service.metadata.namespace, service.spec.selector.items()
        buckets = [self.cluster.pods_by_label.get(label_pair(namespace, *item)) for item in selector]
        # Through the rarest of the selector's labels; the selector matches if the pod has all its pairs.
        return [pod for pod in min(buckets, key=len) if selector <= pod.metadata.labels.items()]

    def _slices(self, key: str) -> list[EndpointSlice]:
        """The Service's slices as this controller left them, even if the informer lags behind."""
        service = self.cluster.services.items[key].metadata
        found: dict[str, EndpointSlice | None] = {s.key: s for s in self.cluster.slices_by_service.get(key)}
        for written_key, written in self._written.items():
            if written_key in found or (
                written is not None and any(ref.uid == service.uid for ref in written.metadata.ownerReferences)
            ):
                found[written_key] = written
        return [s for s in found.values() if s is not None and s.metadata.labels.get(MANAGED_BY_LABEL) == MANAGED_BY]

    def _zone(self, node: str) -> str | None:
        found = self.cluster.nodes.items.get(node)
        return found.metadata.labels.get(ZONE_LABEL) if found is not None else None

    def _note(self, written: EndpointSlice) -> None:
        seen = self.cluster.endpoint_slices.items.get(written.key)
        if seen is None or _version(seen) < _version(written):
            self._written[written.key] = written

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        current = new or old
        assert current is not None
        written = self._written.get(current.key)
        own = current.key in self._written
        if new is None or (written is not None and _version(new) >= _version(written)):
            self._written.pop(current.key, None)
        if not own:
            # Another client's change, to be corrected.
            self._enqueue_service_of(old)
            self._enqueue_service_of(new)

    def _enqueue_service_of(self, found: EndpointSlice | None) -> None:
        if found is not None and found.metadata.labels.get(MANAGED_BY_LABEL) == MANAGED_BY:
            for reference in found.metadata.ownerReferences:
                self.queue.add(f"{found.metadata.namespace}/{reference.name}")

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if new is None:
            assert old is not None
            self._triggers.pop(old.key, None)
        elif old is None or old.spec != new.spec or old.metadata.labels != new.metadata.labels:
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _visible(old) == _visible(new):
            return
        keys: set[str] = set()
        for pod in (old, new):
            if pod is not None and pod.status.podIPs:
                keys |= self._services_of(pod)
        moment = now()
        for key in keys:
            self._triggers.setdefault(key, moment)
            self.queue.add(key)

    def _services_of(self, pod: Pod) -> set[str]:
        labels = pod.metadata.labels.items()
        return {
            service.key
            for pair in label_pairs(pod)
            for service in self._by_selector.get(pair)
            if service.spec.selector.items() <= labels
        }

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        zones = {node.metadata.labels.get(ZONE_LABEL) if node is not None else None for node in (old, new)}
        name = (new or old).metadata.name  # type: ignore[union-attr]
        if len(zones) > 1:
            for pod in self.cluster.pods_by_node.get(name):
                for key in self._services_of(pod):
                    self.queue.add(key)


def _first_pair(service: Service) -> list[str]:
    pairs = sorted(label_pair(service.metadata.namespace, *item) for item in service.spec.selector.items())
    return pairs[:1]


def _visible(pod: Pod) -> tuple[Any, ...]:
    """The properties of a pod that an endpoint shows."""
    return (
        pod.metadata.uid,
        pod.metadata.labels,
        pod.metadata.deletionTimestamp,
        pod.status.podIPs,
        is_ready(pod),
        is_finished(pod),
        pod.spec.nodeName,
    )


def _version(found: EndpointSlice) -> int:
    # Resource versions of one resource compare as integers (KEP-5504).
    return int(found.metadata.resourceVersion)
