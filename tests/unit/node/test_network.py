from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Node
from netlab.net.overlay import Overlay
from netlab.node.network import (
    VTEP_MAC,
    NetworkConfig,
    PodRoute,
    Vtep,
    conflist,
    plan,
)


def config(network: str, *cidrs: str) -> NetworkConfig:
    return NetworkConfig(
        node_name="node-1",
        network=network,
        cluster_cidrs=cidrs or ("10.244.0.0/16",),
        mtu=1450,
        cni_conf_dir=Path("/conf"),
        cni_data_dir=Path("/data"),
    )


def node(number: int, *cidrs: str, mac: str = "", **more: Any) -> Node:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    if any(":" in cidr for cidr in cidrs):
        addresses.append({"type": "InternalIP", "address": f"2001:db8::{number}"})
    value = {
        "metadata": {"name": f"node-{number}", "annotations": {VTEP_MAC: mac} if mac else {}},
        "spec": {"podCIDRs": list(cidrs)},
        "status": {"addresses": addresses},
        **more,
    }
    return msgspec.convert(value, Node)


ME = node(1, "10.244.1.0/24", mac="02:00:00:00:00:01")
PEER = node(2, "10.244.2.0/24", mac="02:00:00:00:00:02")


def test_vxlan_needs_a_route_a_neighbour_and_a_forwarding_entry_for_each_peer() -> None:
    wanted = plan(config("vxlan"), ME, [ME, PEER])
    assert wanted.vtep == Vtep("192.0.2.1", ("10.244.1.0/32",))
    assert wanted.overlay == Overlay(
        forwarding=frozenset({("02:00:00:00:00:02", "192.0.2.2")}),
        neighbours=frozenset({("10.244.2.0", "02:00:00:00:00:02")}),
        routes=frozenset({("10.244.2.0/24", "10.244.2.0")}),
    )
    assert wanted.routes == frozenset()


def test_two_families_share_one_tunnel() -> None:
    me = node(1, "10.244.1.0/24", "fd00:10:244:1::/64", mac="02:00:00:00:00:01")
    peer = node(2, "10.244.2.0/24", "fd00:10:244:2::/64", mac="02:00:00:00:00:02")
    wanted = plan(config("vxlan", "10.244.0.0/16", "fd00:10:244::/48"), me, [me, peer])
    assert wanted.overlay.forwarding == {("02:00:00:00:00:02", "192.0.2.2")}
    assert {subnet for subnet, _ in wanted.overlay.routes} == {"10.244.2.0/24", "fd00:10:244:2::/64"}


def test_routed_goes_through_the_peers_address_of_the_same_family() -> None:
    me, peer = node(1, "fd00:10:244:1::/64"), node(2, "fd00:10:244:2::/64")
    wanted = plan(config("routed", "fd00:10:244::/48"), me, [me, peer])
    assert wanted.routes == {PodRoute("fd00:10:244:2::/64", "2001:db8::2", "eth0")}
    assert (wanted.vtep, wanted.overlay) == (None, Overlay())


def test_the_flat_network_needs_no_routes_but_the_nodes_own_address_on_the_segment() -> None:
    wanted = plan(config("bridge"), ME, [ME, PEER])
    assert (wanted.routes, wanted.bridge_addresses) == (frozenset(), ("10.244.1.1/16",))


NOT_YET = [node(2), node(2, "10.244.2.0/24"), node(2, mac="02:00:00:00:00:02")]


@pytest.mark.parametrize("peer", NOT_YET)
def test_a_peer_without_a_subnet_or_an_endpoint_is_left_out(peer: Node) -> None:
    wanted = plan(config("vxlan"), ME, [ME, peer])
    assert (wanted.routes, wanted.overlay) == (frozenset(), Overlay())


def test_the_cni_configuration_gives_out_the_nodes_own_part_of_a_flat_segment() -> None:
    plugin, *chained = conflist(config("bridge"), ["10.244.1.0/24"])["plugins"]
    assert [each["type"] for each in chained] == ["netlab-portmap", "netlab-bandwidth"]
    assert plugin["ipam"]["ranges"] == [
        [
            {
                "subnet": "10.244.0.0/16",
                "rangeStart": "10.244.1.2",
                "rangeEnd": "10.244.1.254",
                "gateway": "10.244.1.1",
            }
        ]
    ]
    assert conflist(config("vxlan"), ["10.244.1.0/24"])["plugins"][0]["mtu"] == 1450
