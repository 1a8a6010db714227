from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Node
from netlab.cni.plugins.main.peers import Peer
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
