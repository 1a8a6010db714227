"""Every interface of a lab at which packets can be watched, with names that people know.

The owner of an interface comes from the kernel (its namespace, and the namespace and index of a veth's other end) and
from the API (the pod of a sandbox), never from the interface's name.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable, Mapping, Sequence

from netlab.capture.taps import Tap, kind_of
from netlab.errors import NotFoundError
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.paths import FABRIC
from netlab.net.route.links import IFF_LOOPBACK, IFF_UP, Link
from netlab.net.route.socket import Rtnetlink


@dataclasses.dataclass(frozen=True)
class Look:
    """The links of a network namespace at one moment.

    `numbers` has the namespaces for the ids in the links' `peer_namespace`.
    """

    network: Network
    links: Sequence[Link]
    numbers: Mapping[int, Network]


def tapped(envoy: NetworkEnvoy) -> dict[Tap, Network]:
    """All taps of the lab, with the network namespace of each: the fabric's first, those of pods last.

    Loopback and interfaces that are down are not taps. What disappears in the meantime is left out. Raises
    `UnavailableError` when the lab has ended.
    """
    return taps(look(envoy))


def look(envoy: NetworkEnvoy) -> list[Look]:
    """The links of every network namespace of the lab."""
    listed = envoy.listed()
    machines = {network.machine: network for network in listed if not network.sandbox}
    found = []
    for network in listed:
        # Veth pairs connect the fabric to machines, and a machine to its pods.
        others = [each for each in listed if each.machine == network.machine and each is not network]
        others += machines.values() if network.machine == FABRIC else [machines[FABRIC]]
        if network.sandbox:
            others = [machines[network.machine]]
        try:
            found.append(Look(network, envoy.run(network, links), envoy.numbers(network, others)))
        except NotFoundError:
            continue
    return found


def links() -> list[Link]:
    """The links of the current network namespace."""
    with Rtnetlink() as rtnetlink:
        return rtnetlink.links()


def taps(looks: Iterable[Look]) -> dict[Tap, Network]:
    """The taps, with their network namespaces. Pure."""
    seen = list(looks)
    by_index = {(each.network, link.index): link for each in seen for link in each.links}
    found = {}
    for each in seen:
        for link in each.links:
            if not link.flags & IFF_UP or link.flags & IFF_LOOPBACK:
                continue
            peer = each.network if link.peer_namespace is None else each.numbers.get(link.peer_namespace)
            end = by_index.get((peer, link.peer)) if peer is not None and link.kind == "veth" else None
            behind = peer if end is not None else None
            name = f"{behind.owner} {end.name}" if behind is not None and end is not None else ""
            network = each.network
            to_pod = bool(behind.sandbox) if behind is not None else None
            kind = kind_of(link.kind, in_pod=bool(network.sandbox), to_pod=to_pod)
            found[Tap(network.machine, network.owner, link.name, kind, name)] = network
    return found


def make_socket(envoy: NetworkEnvoy, network: Network) -> socket.socket:
    """A packet socket (AF_PACKET, SOCK_RAW) in that namespace, unbound, so that it receives no packets yet."""
    return envoy.socket(network, socket.AF_PACKET, socket.SOCK_RAW, 0)
