"""Reads the State of a running lab: what its network namespaces have, and what its proxies should do.

`observe` (netlab.trace.namespace) runs in every namespace in turn; this module joins the results.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator, Mapping
from socket import AF_INET, AF_INET6

import msgspec

from netlab.api import cluster as clusters
from netlab.api import load_balancers
from netlab.api.cluster import Query
from netlab.api.core_types import Node
from netlab.api.resources import LEASES, NAMESPACES, NETWORKPOLICIES, NODES, PODS
from netlab.capture.headers import TCP, UDP
from netlab.errors import NotFoundError
from netlab.lab.components import proxy_config
from netlab.lab.lab import Lab
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.spec import LabSpec
from netlab.lab.topology import NODE_INTERFACE
from netlab.net.addresses import address_text
from netlab.net.conntrack import Ends as Tracked
from netlab.net.conntrack import entries as conntrack
from netlab.policy.cluster_types import CLUSTERNETWORKPOLICIES
from netlab.policy.explain import World, world
from netlab.policy.rules import AnyPolicy
from netlab.proxy.book import plan_of
from netlab.proxy.objects import OURS
from netlab.trace.affinity import remembered, sticky
from netlab.trace.namespace import Observed, observe
from netlab.trace.state import Announced, Ends, Flow, Masquerade, Namespace, Probe, Proxy, State

_NUMBERS = {"tcp": TCP, "udp": UDP}


def read(lab: Lab, probe: Probe | None = None, envoy: NetworkEnvoy | None = None) -> State:
    """The current state of a lab. With a `probe` that has a source port, also the conntrack entries that concern it.

    `envoy` is used if given. Raises `NotFoundError` or `UnavailableError` when the lab is not up.
    """
    if envoy is None:
        with NetworkEnvoy(lab) as made:
            return read(lab, probe, made)
    spec = lab.spec()
    cluster = clusters.read(lab.client(), (*OURS, Query(NODES)))
    namespaces = read_namespaces(envoy)
    proxies = {}
    for network in envoy.machines():
        if network.machine not in spec.node_names:
            continue
        config = proxy_config(spec, network.machine)
        plans = {family: plan_of(cluster, network.machine, family) for family in spec.families}
        affinities = frozenset(envoy.run(network, remembered, config.mode, sticky(config, plans)))
        proxies[network.machine] = Proxy(config, plans, affinities)
        if probe is not None and probe.source_port and probe.protocol in _NUMBERS:
            flows = envoy.run(network, flows_of, probe.version, probe.protocol, probe.source_port)
            owner = namespaces[network.owner]
            namespaces[network.owner] = msgspec.structs.replace(owner, flows=tuple(flows))
    for address, node in _announcers(lab, cluster).items():
        if (there := namespaces.get(node)) is not None:
            announced = (*there.announced, Announced(address, NODE_INTERFACE))
            namespaces[node] = msgspec.structs.replace(there, announced=announced)
    masquerades = {node.metadata.name: tuple(_masquerades(node, spec)) for node in cluster.nodes.values()}
    return State(namespaces, proxies, masquerades, _policies(lab, cluster))


def _announcers(lab: Lab, cluster: clusters.Cluster) -> dict[str, str]:
    leases = lab.client().list(LEASES, load_balancers.LEASE_NAMESPACE)
    return load_balancers.announcers(cluster.services.values(), leases, time.time())


def _policies(lab: Lab, cluster: clusters.Cluster) -> World | None:
    client = lab.client()
    policies: list[AnyPolicy] = [*client.list(NETWORKPOLICIES), *client.list(CLUSTERNETWORKPOLICIES)]
    if not policies:
        return None
    return world(policies, client.list(NAMESPACES), client.list(PODS), cluster.nodes.values())


def read_namespaces(envoy: NetworkEnvoy) -> dict[str, Namespace]:
    """What every network namespace of the lab has, by owner, machines first. Raises `UnavailableError`."""
    observed = {}
    for network in envoy.listed():
        with contextlib.suppress(NotFoundError):  # a pod that has just gone
            observed[network] = envoy.run(network, observe, network.owner, network.machine)
    ends = _wires(envoy, observed)
    return {network.owner: _joined(network, seen.namespace, ends) for network, seen in observed.items()}


def _masquerades(node: Node, spec: LabSpec) -> Iterator[Masquerade]:
    for cidr in node.spec.podCIDRs:
        version = ipaddress.ip_network(cidr).version
        cluster = next(each for each in spec.podCIDRs if ipaddress.ip_network(each).version == version)
        yield Masquerade(cidr, cluster)


def _wires(envoy: NetworkEnvoy, observed: Mapping[Network, Observed]) -> dict[tuple[Network, str], tuple[Network, str]]:
    """What is at the other end of each veth pair, by network and name.

    Only machines are asked: the ids that they have for their pods' namespaces give the pods' side too.
    """
    found = {}
    machines = [network for network in observed if not network.sandbox]
    for network in machines:
        pods = [each for each in observed if each.machine == network.machine and each.sandbox]
        numbers = envoy.numbers(network, [*machines, *pods])
        for name, (number, index) in observed[network].peers.items():
            other = network if number is None else numbers.get(number)
            end = observed[other].indexes.get(index) if other is not None and other in observed else None
            if other is not None and end is not None:
                found[network, name] = (other, end)
                found[other, end] = (network, name)
    return found


def _joined(network: Network, seen: Namespace, ends: Mapping[tuple[Network, str], tuple[Network, str]]) -> Namespace:
    """The namespace, completed with the other ends of its veth pairs."""
    links = []
    for link in seen.links:
        other, name = ends.get((network, link.name), (None, ""))
        links.append(msgspec.structs.replace(link, peer=(other.owner, name) if other else None))
    return msgspec.structs.replace(seen, links=tuple(links))


def flows_of(version: int, protocol: str, source_port: int) -> list[Flow]:
    """The conntrack entries of the current namespace with that original source port. Raises `NetlinkError`."""
    return [
        Flow(protocol, _ends(each.original), _ends(each.reply))
        for each in conntrack.entries(AF_INET if version == 4 else AF_INET6)
        if (each.protocol, each.original[1]) == (_NUMBERS[protocol], source_port)
    ]


def _ends(tracked: Tracked) -> Ends:
    source, sport, destination, dport = tracked
    return Ends(address_text(source), sport, address_text(destination), dport)
