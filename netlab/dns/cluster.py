"""The names of a cluster, as the API has them now: Services and their EndpointSlices, Namespaces and Pods, by watch."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from netlab.api.client import Client
from netlab.api.core_types import Namespace, Pod, Service
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.informer import Informer
from netlab.api.resources import NAMESPACES, PODS, SERVICES
from netlab.dns.corefile import Kubernetes
from netlab.dns.names import is_within, undashed
from netlab.dns.objects import ENDPOINTSLICES
from netlab.dns.records import SCHEMA_VERSION, Node, Record, is_headless, of_service, of_slice
from netlab.dns.table import Table


class ClusterNames:
    """What exists in the zones of a `kubernetes` plugin."""

    def __init__(self, client: Client, config: Kubernetes, own: Sequence[str]) -> None:
        """`own` are the addresses of this server."""
        self.config = config
        self.changed: Callable[[Hashable], None] = lambda _: None
        """Called with the `subject` of names that have changed."""
        self._table = Table()
        self._services = Informer(client, SERVICES)
        self._slices = Informer(client, ENDPOINTSLICES)
        self._namespaces = Informer(client, NAMESPACES)
        self._pods = Informer(client, PODS) if config.pods == "verified" else None
        self._slices_of: defaultdict[str, dict[str, EndpointSlice]] = defaultdict(dict)
        self._pod_at: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Names of pods by namespace and address."""
        self._due: set[str] = set()
        self._due_slices: set[tuple[str, str]] = set()
        """Services, and slices by Service and name, whose records are to be made again."""
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)
        self._namespaces.on_change(self._namespace_changed)
        if self._pods is not None:
            self._pods.on_change(self._pod_changed)
        self._table.replace(None, _own_records(config.zone, own))

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers():
                tasks.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until everything is known."""
        for informer in self._informers():
            await informer.synced.wait()
        self._put_in_place()

    def is_synced(self) -> bool:
        """Whether everything is known."""
        return all(informer.synced.is_set() for informer in self._informers())

    def _informers(self) -> Iterable[Informer[Service] | Informer[EndpointSlice] | Informer[Namespace] | Informer[Pod]]:
        found = (self._namespaces, self._slices, self._services)
        return (*found, self._pods) if self._pods is not None else found

    def find(self, name: str) -> Node | None:
        """What a name of one of the zones has; None if it does not exist."""
        zone = self.config.zone
        if not is_within(name, zone):
            return self._table.find(name)
        match self._labels(name):
            case ["svc" | "pod"]:
                return {}
            case ["svc" | "pod", namespace]:
                return {} if namespace in self._namespaces.items else None
            case ["pod", namespace, label]:
                return self._pod(namespace, label)
        return self._table.find(name)

    def subject(self, name: str) -> Hashable:
        """What decides about a name: a Service, a Namespace, or nothing but the name itself."""
        match self._labels(name) if is_within(name, self.config.zone) else []:
            case ["svc", namespace, service, *_]:
                return f"{namespace}/{service}"
            case ["svc" | "pod", namespace, *_]:
                return f"{namespace}/"
        return name

    def _labels(self, name: str) -> list[str]:
        """The labels of a name below the zone, the last first."""
        below = name.removesuffix(self.config.zone).rstrip(".")
        return below.split(".")[::-1] if below else []

    def _pod(self, namespace: str, label: str) -> Node | None:
        address = undashed(label)
        if address is None or self.config.pods == "disabled" or namespace not in self._namespaces.items:
            return None
        if self._pods is not None and not self._pod_at.get((namespace, address)):
            return None
        return {"AAAA" if ":" in address else "A": (address,)}

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        assert service is not None
        self._make_due(service.key, self._slices_of.get(service.key, {}))

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for each, is_there in ((old, False), (new, True)):
            if each is None:
                continue
            key = f"{each.metadata.namespace}/{each.metadata.labels.get(SERVICE_NAME_LABEL, '')}"
            if is_there:
                self._slices_of[key][each.metadata.name] = each
            else:
                self._slices_of[key].pop(each.metadata.name, None)
            if (service := self._services.items.get(key)) is None or is_headless(service):
                self._make_slice_due(key, each.metadata.name)
            if not self._slices_of[key]:
                del self._slices_of[key]

    def _make_due(self, key: str, slices: Iterable[str]) -> None:
        self._soon()
        self._due.add(key)
        self._due_slices.update((key, name) for name in slices)

    def _make_slice_due(self, key: str, name: str) -> None:
        self._soon()
        self._due_slices.add((key, name))

    def _soon(self) -> None:
        if not (self._due or self._due_slices):
            # Together with what else has come with the same bytes: one slice of a large Service seldom comes alone.
            asyncio.get_running_loop().call_soon(self._put_in_place)

    def _put_in_place(self) -> None:
        due, self._due = self._due, set()
        due_slices, self._due_slices = self._due_slices, set()
        zone, services = self.config.zone, self._services.items
        for key in due:
            service = services.get(key)
            self._replace(key, of_service(service, zone) if service else ())
        for key, name in due_slices:
            service, endpoints = services.get(key), self._slices_of.get(key, {}).get(name)
            is_told = service is not None and endpoints is not None and is_headless(service)
            self._replace((key, name), of_slice(service, endpoints, zone) if is_told else ())  # type: ignore[arg-type]

    def _replace(self, giver: Hashable, records: Iterable[Record]) -> None:
        for about in {self.subject(name) for name in self._table.replace(giver, records)}:
            self.changed(about)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        for each in (old, new):
            if each is not None:
                self.changed(f"{each.metadata.name}/")

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod, is_there in ((old, False), (new, True)):
            if pod is None:
                continue
            for ip in pod.status.podIPs:
                names = self._pod_at[pod.metadata.namespace, ip.ip]
                (names.add if is_there else names.discard)(pod.metadata.name)
                if not names:
                    del self._pod_at[pod.metadata.namespace, ip.ip]
            self.changed(f"{pod.metadata.namespace}/")


def _own_records(zone: str, own: Sequence[str]) -> Iterable[Record]:
    """The zone's own: who serves it, and the version of the schema (section 2.2)."""
    yield Record(zone, "NS", f"ns.dns.{zone}")
    yield Record(f"dns-version.{zone}", "TXT", SCHEMA_VERSION)
    for address in own:
        yield Record(f"ns.dns.{zone}", "AAAA" if ":" in address else "A", address)
