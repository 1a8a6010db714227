"""The wires of a lab: first a plan (values), then the few calls that make the kernel match it."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
from collections.abc import Mapping

from netlab.errors import NetlabError, UnsupportedError
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.lab.spec import UNDERLAY_MTU, Join, LabSpec
from netlab.net.addresses import Family, packed, packed_network
from netlab.net.namespaces import entered, write_sysctls
from netlab.net.netlink import NetlinkError
from netlab.net.route import addresses, links, routes
from netlab.net.route.socket import Rtnetlink

FABRIC_BRIDGE = "fabric0"
POD_BRIDGE = "pods0"
"""The flat segment of the `bridge` network: every node's cni0 is wired to it."""

NODE_INTERFACE = "eth0"
POD_SEGMENT_INTERFACE = "eth1"

_DEFAULT = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}

_HOST_SYSCTLS = {
    # New namespaces inherit the host's settings (net.core.devconf_inherit_init_net); a lab must be the same anywhere.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/ip_forward": "0",
}
_IPV6_SYSCTLS = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    # No address here can be a duplicate, and the tentative state would cost a second.
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # A packet for a load balancer's address, at a port that no Service has there, would leave by the link on which it
    # came: a redirect would name a shorter way that there is not.
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}
_ROUTER_SYSCTLS = {
    # By ports too, or all connections of one client would go to one node.
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
}
_BRIDGE_SYSCTLS = {
    # A Service's reply that crosses a bridge within one subnet must still pass conntrack, or it is never translated
    # back (https://kubernetes.io/docs/setup/production-environment/container-runtimes, br_netfilter).
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
}


@dataclasses.dataclass(frozen=True)
class Wire:
    """A veth pair from a machine to a bridge of the fabric."""

    machine: str
    interface: str
    bridge: str
    port: str


@dataclasses.dataclass(frozen=True)
class Route:
    """A route of a machine through its NODE_INTERFACE."""

    machine: str
    destination: str
    gateways: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Topology:
    """What the fabric, the nodes and the outside have before the first pod."""

    machines: tuple[str, ...]
    bridges: tuple[str, ...]
    wires: tuple[Wire, ...]
    addresses: tuple[tuple[str, str], ...]
    """(machine, address/prefix), on its NODE_INTERFACE, or the FABRIC_BRIDGE of the fabric."""
    routes: tuple[Route, ...]
    sysctls: Mapping[str, Mapping[str, str]]
    """By machine."""
    optional_sysctls: Mapping[str, Mapping[str, str]]
    """By machine; skipped if the kernel lacks them (`netlab doctor` says what does not work then)."""


def plan(spec: LabSpec) -> Topology:
    """The topology of a lab: every host is on one fabric bridge, and the outside is the nodes' default gateway.

    The outside routes the external ranges to all nodes, as an upstream router would with ECMP.
    """
    hosts = spec.machine_names
    wires = [Wire(host, NODE_INTERFACE, FABRIC_BRIDGE, host) for host in hosts]
    bridges = [FABRIC_BRIDGE]
    if spec.network == "bridge":
        bridges.append(POD_BRIDGE)
        wires += [Wire(node, POD_SEGMENT_INTERFACE, POD_BRIDGE, f"{node}-pods") for node in spec.node_names]
    addresses = []
    routes = []
    for index, family in enumerate(spec.families):
        prefix = spec.underlay_prefix(family)
        outside = spec.outside_addresses[index]
        nodes = [spec.node_addresses(number + 1)[index] for number in range(spec.nodes)]
        addresses += [(name, f"{address}/{prefix}") for name, address in zip(spec.node_names, nodes, strict=True)]
        addresses.append((FABRIC, f"{spec.fabric_addresses[index]}/{prefix}"))
        if spec.joins is not None:
            # Nothing is beyond: the cluster that the node has joined is reached by what is carried there.
            routes += [Route(name, _DEFAULT[family], (spec.fabric_addresses[index],)) for name in spec.node_names]
            addresses += _as_the_cluster_knows(spec.joins, family)
            continue
        addresses.append((OUTSIDE, f"{outside}/{prefix}"))
        routes += [Route(name, _DEFAULT[family], (outside,)) for name in spec.node_names]
        routes.append(Route(OUTSIDE, spec.external_ranges[index], tuple(nodes)))
    router = {OUTSIDE: _ROUTER_SYSCTLS} if spec.loadBalancerProtocol == "bgp" else {}
    return Topology(
        machines=tuple(hosts),
        bridges=tuple(bridges),
        wires=tuple(wires),
        addresses=tuple(addresses),
        routes=tuple(routes),
        sysctls={host: _sysctls(spec, host) for host in [FABRIC, *hosts]},
        optional_sysctls=dict.fromkeys(spec.node_names, _BRIDGE_SYSCTLS) | router,
    )


def _as_the_cluster_knows(joins: Join, family: Family) -> list[tuple[str, str]]:
    """The node's address in its cluster, so that what uses the node's network is reached there from the node itself."""
    known = ipaddress.ip_address(joins.address)
    is_new = f"IPv{known.version}" == family and not known.is_loopback
    return [(joins.node, f"{known}/{known.max_prefixlen}")] if is_new else []


def _sysctls(spec: LabSpec, host: str) -> dict[str, str]:
    settings = dict(_HOST_SYSCTLS)
    if "IPv6" in spec.families:
        settings |= _IPV6_SYSCTLS
    if host in spec.node_names:
        settings |= _NODE_SYSCTLS
        if "IPv6" not in spec.families:
            del settings["net/ipv6/conf/all/forwarding"]
    return settings


def build(topology: Topology, namespaces: Mapping[str, int]) -> None:
    """Make the kernel agree with the plan; what is there already is kept, so it can be repeated.

    `namespaces` maps each machine, and FABRIC, to a descriptor of its network namespace. Raises
    `NetlabError` or `UnsupportedError`, naming the object.
    """
    try:
        _build(topology, namespaces)
    except NetlinkError as error:
        kind = UnsupportedError if error.errno == errno.EOPNOTSUPP else NetlabError
        raise kind(str(error)) from error


def _build(topology: Topology, namespaces: Mapping[str, int]) -> None:
    for machine, settings in topology.sysctls.items():
        with entered(namespaces[machine]):
            write_sysctls(dict(settings))
            write_sysctls(dict(topology.optional_sysctls.get(machine, {})), optional=True)
    with entered(namespaces[FABRIC]), Rtnetlink() as kernel:
        for bridge in topology.bridges:
            kernel.send(links.bridge(bridge, mtu=UNDERLAY_MTU), tolerate=errno.EEXIST)
            kernel.set_up(bridge)
        for wire in topology.wires:
            end = links.veth(wire.port, 0, wire.interface, namespaces[wire.machine], mtu=UNDERLAY_MTU)
            kernel.send(end, tolerate=errno.EEXIST)
            kernel.set_up(wire.port, master=wire.bridge)
        _give_addresses(kernel, topology, FABRIC, FABRIC_BRIDGE)
    for machine in topology.machines:
        with entered(namespaces[machine]), Rtnetlink() as kernel:
            for wire in topology.wires:
                if wire.machine == machine:
                    kernel.set_up(wire.interface)
            index = _give_addresses(kernel, topology, machine, NODE_INTERFACE)
            for route in topology.routes:
                if route.machine == machine:
                    to, gateways = route.destination, [packed(each) for each in route.gateways]
                    kernel.send(routes.replacement(to, *packed_network(to), index, gateways))


def _give_addresses(kernel: Rtnetlink, topology: Topology, machine: str, name: str) -> int:
    """Give a machine's interface its addresses; the interface's index."""
    index: int = kernel.existing(name).index
    for owner, address in topology.addresses:
        if owner == machine:
            kernel.send(addresses.addition(name, index, *packed_network(address)), tolerate=errno.EEXIST)
    return index
