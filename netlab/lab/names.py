"""The owners of addresses, to show a lab's packets with names."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable

import msgspec

from netlab.api.cluster import Cluster, node_addresses, pod_addresses
from netlab.capture.changes import Change
from netlab.capture.headers import Headers, endpoint_text, protocol_name
from netlab.lab.paths import OUTSIDE
from netlab.net.addresses import address_text, packed


class Names:
    """Pods, machines and Services by their addresses, at the time when the API's objects were read."""

    def __init__(self, cluster: Cluster, outside: Iterable[str] = ()) -> None:
        self._owners: dict[bytes, str] = {}
        self._services: dict[tuple[bytes, int, str], str] = {}
        self._virtual: dict[bytes, str] = {}
        """Services by the addresses that no other Service has."""
        for address in outside:
            self._owners[packed(address)] = OUTSIDE
        nodes = [(name, packed(each)) for name, node in cluster.nodes.items() for each in node_addresses(node)]
        self._networks = [
            (ipaddress.ip_network(cidr), name) for name, node in cluster.nodes.items() for cidr in node.spec.podCIDRs
        ]
        self._owners |= {address: name for name, address in nodes}
        for pod in cluster.pods.values():
            if not pod.spec.hostNetwork:
                self._owners |= {packed(address): pod.key for address in pod_addresses(pod)}
        for service in cluster.services.values():
            spec = service.spec
            ingress = [each.ip for each in service.status.loadBalancer.ingress if each.ip]
            for text in [*spec.clusterIPs, *spec.externalIPs, *ingress]:
                with contextlib.suppress(OSError):  # a headless Service's is None
                    self._virtual[packed(text)] = service.key
                    for port in spec.ports:
                        self._services[packed(text), port.port, port.protocol] = service.key
            for port in spec.ports:
                if port.nodePort:
                    for _, own in nodes:
                        self._services[own, port.nodePort, port.protocol] = service.key

    def owner(self, address: bytes) -> str:
        """The pod (NAMESPACE/NAME) or machine with this address; empty if unknown.

        An address in a node's pod subnet that no pod has belongs to the node: to its bridge or its tunnel.
        """
        if address not in self._owners:
            known = ipaddress.ip_address(address)
            return next((name for network, name in self._networks if known in network), "")
        return self._owners[address]

    def known(self) -> dict[str, str]:
        """The name of every address: its `owner`, or `NAMESPACE/NAME (Service)`."""
        services = {address: f"{service} (Service)" for (address, _, _), service in self._services.items()}
        # A node's tunnel has the first address of its pod subnet, the bridge of its pods the second.
        own = {network[number].packed: name for network, name in self._networks for number in (0, 1)}
        return {address_text(address): name for address, name in (own | services | self._owners).items()}

    def service(self, address: bytes, port: int, protocol: int) -> str:
        """The Service (NAMESPACE/NAME) with this address and port; empty if there is none."""
        return self._services.get((address, port, protocol_name(protocol)), "")

    def called(self, address: bytes, port: int, protocol: int) -> str:
        """One end of a connection by its shortest name: `web-1:8080`, `svc/web.shop:80`, `node-1`.

        The namespace default is left out. Without a known name it is the address.
        """
        owner = self.owner(address).removeprefix("default/")
        service = self.service(address, port, protocol) or self._virtual.get(address, "")
        if service and not owner:
            namespace, _, name = service.partition("/")
            owner = f"svc/{name}" if namespace == "default" else f"svc/{name}.{namespace}"
        if not owner:
            return endpoint_text(address, port)
        return f"{owner}:{port}" if port else owner

    def cause(self, before: Headers, after: Headers, change: Change) -> Change:
        """A change with its cause, if known."""
        kind = change.kind
        if kind in ("DNAT", "un-DNAT"):
            address, port = (before.destination, before.dport) if kind == "DNAT" else (after.source, after.sport)
            service = self.service(address, port, before.protocol)
            return msgspec.structs.replace(change, service=service)
        if kind == "SNAT":
            return msgspec.structs.replace(change, machine=self.owner(after.source))
        return change
