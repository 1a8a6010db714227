"""Services and what belongs to them, as the API has them; and names that know them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from netlab.api.core_types import Namespace, Pod, Service
from netlab.dns.cluster import ClusterNames
from netlab.dns.corefile import Kubernetes
from netlab.dns.objects import EndpointSlice

ZONES = ("in-addr.arpa", "ip6.arpa")
CONFIG = Kubernetes("cluster.local", ZONES, pods="insecure", ttl=30, fallthrough=ZONES)


def service(name: str, *, ports: Sequence[tuple[str, int]] = (("http", 80),), **spec: Any) -> Service:
    """A Service of the namespace shop; `spec` are its fields."""
    listed = [{"name": each, "port": number} for each, number in ports]
    meta = {"namespace": "shop", "name": name, "uid": name}
    return msgspec.convert({"metadata": meta, "spec": {"ports": listed, **spec}}, Service)


def slice_of(
    name: str,
    *endpoints: tuple[str, str | None, bool],
    family: str = "IPv4",
    ports: Sequence[tuple[str, int]] = (("http", 8080),),
) -> EndpointSlice:
    """A slice of a Service: each endpoint's address, hostname, and whether it is ready."""
    listed = [
        {"addresses": [address], "conditions": {"ready": ready}} | ({"hostname": hostname} if hostname else {})
        for address, hostname, ready in endpoints
    ]
    meta = {"namespace": "shop", "name": f"{name}-{family.lower()}", "labels": {"kubernetes.io/service-name": name}}
    body = {
        "metadata": meta,
        "addressType": family,
        "endpoints": listed,
        "ports": [{"name": each, "port": number, "protocol": "TCP"} for each, number in ports],
    }
    return msgspec.convert(body, EndpointSlice)


class Names(ClusterNames):
    """The names of a cluster that is made here and not asked for."""

    def __init__(self, objects: Iterable[object], config: Kubernetes = CONFIG) -> None:
        super().__init__(None, config, ["10.244.1.2"])  # type: ignore[arg-type]
        self.give(msgspec.convert({"metadata": {"name": "shop"}}, Namespace))
        for each in objects:
            self.give(each)
        for informer in self._informers():
            informer.synced.set()

    def give(self, *objects: object, gone: bool = False) -> None:
        """What a watch would bring: objects that are there, or are gone."""
        informers = {Service: self._services, EndpointSlice: self._slices, Namespace: self._namespaces, Pod: self._pods}
        for each in objects:
            informers[type(each)]._apply(each.key, None if gone else each)  # type: ignore[index, attr-defined]
        self._put_in_place()

    def _soon(self) -> None:
        """It is put in place by `give`."""
