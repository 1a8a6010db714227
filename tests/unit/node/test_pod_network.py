import dataclasses
import ipaddress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.core_types import Node
from netlab.cni.plugins.main.peers import Peer, format_peers, parse_peers
from netlab.cni.plugins.main.peers import plan as peers_plan
from netlab.errors import ConflictError
from netlab.node.pod_network import NetworkConfig, PodNetwork, conflist, plan


def config(network: str, *cidrs: str) -> NetworkConfig:
    return NetworkConfig(
        node_name="node-1",
        network=network,
        cluster_cidrs=cidrs or ("10.244.0.0/16",),
        mtu=1450,
        cni_conf_dir=Path("/conf"),
        cni_data_dir=Path("/data"),
    )


def node(number: int, *cidrs: str, name: str = "", age: int = 0) -> Node:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    if any(":" in cidr for cidr in cidrs):
        addresses.append({"type": "InternalIP", "address": f"2001:db8::{number}"})
    value = {
        "metadata": {"name": name or f"node-{number}", "creationTimestamp": f"2026-01-01T00:00:{59 - age}Z"},
        "spec": {"podCIDRs": list(cidrs)},
        "status": {"addresses": addresses},
    }
    return msgspec.convert(value, Node)


ME = node(1, "10.244.1.0/24")
PEER = node(2, "10.244.2.0/24")


def plugin(network: PodNetwork) -> dict[str, Any]:
    found: dict[str, Any] = conflist(network)["plugins"][0]
    return found


def test_vxlan_is_what_an_operator_would_install_and_the_peers_file_has_this_node_too() -> None:
    wanted = plan(config("vxlan"), ME, [ME, PEER])
    assert plugin(wanted)["mode"] == "vxlan"
    assert plugin(wanted)["vxlan"] == {
        "id": 1,
        "name": "vxlan0",
        "device": "eth0",
        "localAddress": "192.0.2.1",
        "peersFile": "/data/peers.json",
    }
    assert set(wanted.peers) == {
        Peer("node-1", "192.0.2.1", "", "", ("10.244.1.0/24",)),
        Peer("node-2", "192.0.2.2", "", "", ("10.244.2.0/24",)),
    }
    assert wanted.routes == frozenset()


@pytest.mark.parametrize(
    ("subnets", "address", "left"),
    [
        (["10.244.2.0/24"], "192.0.2.2", True),
        ([], "192.0.2.2", False),
        (["10.244.2.1/24"], "192.0.2.2", False),
        (["nonsense"], "192.0.2.2", False),
        (["0.0.0.0/0"], "192.0.2.2", False),
        (["10.245.0.0/24"], "192.0.2.2", False),
        (["10.244.1.0/25"], "192.0.2.2", False),  # a part of this node's
        (["10.244.0.0/16"], "192.0.2.2", False),
        (["10.244.3.0/24"], "192.0.2.2", False),  # an older node's
        (["nonsense", "10.244.2.0/24", "10.244.4.0/24"], "192.0.2.2", True),
        (["10.244.2.0/24"], "::", False),
        (["10.244.2.0/24"], "127.0.0.1", False),
        (["10.244.2.0/24"], "somewhere", False),
    ],
)
@pytest.mark.parametrize("network", ["vxlan", "routed"])
def test_a_node_that_makes_no_sense_cuts_off_no_other(
    network: str, subnets: list[str], address: str, left: bool
) -> None:
    older, odd = node(3, "10.244.3.0/24", age=9), node(2, *subnets)
    odd.status.addresses[0].address = address
    wanted = plan(config(network), ME, [odd, older, ME])
    ways = {subnet for peer in wanted.peers for subnet in peer.subnets} | {subnet for subnet, _ in wanted.routes}
    assert ways - {"10.244.1.0/24"} == ({"10.244.2.0/24", "10.244.3.0/24"} if left else {"10.244.3.0/24"})


@pytest.mark.parametrize(
    ("subnets", "address", "message"),
    [(["10.245.0.0/24"], "192.0.2.1", "podCIDRs"), (["10.244.1.0/24"], "nonsense", "no InternalIP of IPv4")],
)
def test_what_is_wrong_with_this_node_is_said(subnets: list[str], address: str, message: str) -> None:
    me = node(1, *subnets)
    me.status.addresses[0].address = address
    with pytest.raises(ConflictError, match=message):
        plan(config("vxlan"), me, [me, PEER])


_ADDRESSES = (
    st.ip_addresses().map(str) | st.text(max_size=8) | st.sampled_from(["192.0.2.1", "192.0.2.2", "fe80::1%eth0"])
)
_SUBNETS = (
    st.builds("{}/{}".format, _ADDRESSES, st.integers(-1, 129))
    | st.builds("10.244.{}.0/{}".format, st.integers(0, 3), st.integers(16, 32))
    | st.builds("fd00:10:244:{}::/{}".format, st.integers(0, 3), st.integers(48, 128))
    | st.text(max_size=8)
)
_NODES = st.builds(
    lambda number, subnets, addresses, created: msgspec.convert(
        {
            "metadata": {"name": f"node-{number}", "creationTimestamp": created},
            "spec": {"podCIDRs": subnets},
            "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
        },
        Node,
    ),
    st.integers(2, 9),
    st.lists(_SUBNETS, max_size=3),
    st.lists(_ADDRESSES, max_size=3),
    st.none() | st.text(max_size=4),
)


@given(peers=st.lists(_NODES, max_size=5), network=st.sampled_from(["vxlan", "routed", "bridge"]), six=st.booleans())
def test_whatever_nodes_say_the_plan_can_be_carried_out(peers: list[Node], network: str, six: bool) -> None:
    ranges = ["10.244.0.0/16", "fd00:10:244::/48"]
    own = ["10.244.1.0/24", "fd00:10:244:1::/64"]
    me = node(1, *own)
    wanted = plan(config(network, *(reversed(ranges) if six else ranges)), me, [me, *peers])
    if network == "vxlan":
        local = plugin(wanted)["vxlan"]["localAddress"]
        overlay = peers_plan(parse_peers(format_peers(wanted.peers)), local, vni=1)
        assert len({subnet for subnet, *_ in overlay.routes}) == len(overlay.routes)
    for subnet, gateway in wanted.routes:
        assert ipaddress.ip_network(subnet).version == ipaddress.ip_address(gateway).version


def test_two_families_share_one_tunnel_of_the_primary_one() -> None:
    both = ("fd00:10:244::/48", "10.244.0.0/16")
    me = node(1, "fd00:10:244:1::/64", "10.244.1.0/24")
    peer = node(2, "fd00:10:244:2::/64", "10.244.2.0/24")
    wanted = plan(config("vxlan", *both), me, [me, peer])
    assert plugin(wanted)["vxlan"]["localAddress"] == "2001:db8::1"
    assert Peer("node-2", "", "2001:db8::2", "", ("fd00:10:244:2::/64", "10.244.2.0/24")) in wanted.peers
    assert plugin(wanted)["nonMasqueradeCIDRs"] == list(both)


def test_of_two_nodes_with_one_address_the_newer_counts_and_this_one_before_all() -> None:
    new, old = node(2, "10.244.3.0/24", name="new"), node(2, "10.244.2.0/24", name="a", age=9)
    other = node(1, "10.244.4.0/24", name="other")
    for order in ([ME, new, old, other], [other, old, new, ME]):
        peers = plan(config("vxlan"), ME, order).peers
        assert {each.node for each in peers} == {"node-1", "new"}


def test_routed_goes_through_the_peers_address_of_the_same_family() -> None:
    me, peer = node(1, "fd00:10:244:1::/64"), node(2, "fd00:10:244:2::/64")
    wanted = plan(config("routed", "fd00:10:244::/48"), me, [me, peer])
    assert wanted.routes == {("fd00:10:244:2::/64", "2001:db8::2")}
    assert wanted.peers == ()


def test_the_flat_network_needs_no_routes_but_the_nodes_own_address_on_the_segment() -> None:
    wanted = plan(config("bridge"), ME, [ME, PEER])
    assert (wanted.routes, wanted.peers, wanted.bridge_addresses) == (frozenset(), (), ("10.244.1.1/16",))


def without_addresses(peer: Node) -> Node:
    peer.status.addresses = []
    return peer


@pytest.mark.parametrize("network", ["vxlan", "routed"])
@pytest.mark.parametrize("peer", [node(2), without_addresses(node(2, "10.244.2.0/24"))])
def test_a_peer_without_a_subnet_or_an_address_is_left_out(network: str, peer: Node) -> None:
    wanted = plan(config(network), ME, [ME, peer])
    assert [each.node for each in wanted.peers] == (["node-1"] if network == "vxlan" else [])
    assert wanted.routes == frozenset()


def test_the_cni_configuration_gives_out_the_nodes_own_part_of_a_flat_segment() -> None:
    wanted = plan(config("bridge"), ME, [ME])
    _, *chained = conflist(wanted)["plugins"]
    assert [each["type"] for each in chained] == ["netlab-portmap", "netlab-bandwidth"]
    assert plugin(wanted)["ipam"]["ranges"] == [
        [
            {
                "subnet": "10.244.0.0/16",
                "rangeStart": "10.244.1.2",
                "rangeEnd": "10.244.1.254",
                "gateway": "10.244.1.1",
            }
        ]
    ]
    assert plugin(wanted)["mtu"] == 1450


def test_a_node_without_an_underlay_has_a_pod_network_of_its_own() -> None:
    alone = dataclasses.replace(config("routed"), has_underlay=False)
    found = plan(alone, ME, [ME, PEER])
    assert (found.routes, found.peers) == (frozenset(), ())
    assert plugin(found)["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
