"""The pod network's executor against the kernel: two nodes, wired by the lab's own topology."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Node
from netlab.lab import topology
from netlab.lab.paths import FABRIC
from netlab.lab.spec import LabSpec, from_values
from netlab.net import syscalls
from netlab.net.namespaces import entered
from netlab.net.netlink import NetlinkError
from netlab.node.pod_network import NetworkConfig, PodNetwork, plan
from netlab.node.pod_network_agent import apply
from tests.sandbox import isolated


def _wire(spec: LabSpec) -> dict[str, int]:
    """The spec's hosts as bare namespaces, built; this process stays in the fabric's."""
    wires = topology.plan(spec)
    namespaces = {}
    for name in (*wires.machines, FABRIC):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        namespaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    topology.build(wires, namespaces)
    topology.build(wires, namespaces)  # what is there is kept
    return namespaces


def _node(spec: LabSpec, number: int, subnet: int = 0) -> Node:
    subnet = subnet or number
    cidrs = [f"10.244.{subnet}.0/24" if family == "IPv4" else f"fd00:10:244:{subnet}::/64" for family in spec.families]
    value = {
        "metadata": {"name": f"node-{number}"},
        "spec": {"podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in spec.node_addresses(number)]},
    }
    return msgspec.convert(value, Node)


def _apply(
    folder: Path, spec: LabSpec, number: int, nodes: list[Node], applied: PodNetwork | None = None
) -> PodNetwork:
    config = NetworkConfig(
        node_name=f"node-{number}",
        network=spec.network,
        cluster_cidrs=tuple(spec.podCIDRs),
        mtu=spec.pod_mtu,
        cni_conf_dir=folder,
        cni_data_dir=folder,
    )
    wanted = plan(config, nodes[number - 1], nodes)
    apply(config, wanted, applied)
    return wanted


def _ip(*arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(
        subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=True).stdout or "[]"
    )
    return listed


def _reaches(source: str, destination: str, namespaces: dict[str, int]) -> bool:
    """Whether a datagram from one node's pod address arrives at the other's, which is given to its lo for the test."""
    import socket

    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with entered(namespaces["node-2"]):
        receiver = socket.socket(family, socket.SOCK_DGRAM)
        receiver.bind((destination, 9))
        receiver.settimeout(0.5)
    with entered(namespaces["node-1"]):
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.bind((source, 0))
    # A datagram may be lost while the wires come up (linkwatch, neighbour discovery): it is sent again.
    for _ in range(60):
        sender.sendto(b"x", (destination, 9))
        try:
            data, peer = receiver.recvfrom(10)
        except TimeoutError:
            continue
        return (data, peer[0]) == (b"x", source)
    return False


SPECS: list[dict[str, Any]] = [
    {"nodes": 2, "network": network, "families": families}
    for network in ("vxlan", "routed")
    for families in (["IPv4"], ["IPv6"], ["IPv4", "IPv6"])
]


@pytest.mark.parametrize("values", SPECS, ids=lambda v: f"{v['network']}-{'-'.join(v['families'])}")
@isolated
def test_pods_of_two_nodes_reach_each_other_untranslated_until_the_peer_is_gone(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    spec = from_values(values)
    namespaces = _wire(spec)
    nodes = [_node(spec, number) for number in (1, 2)]
    applied = []
    for number in (1, 2):
        with entered(namespaces[f"node-{number}"]):
            applied.append(_apply(tmp_path, spec, number, nodes))
    for family in spec.families:
        pods = [f"10.244.{number}.9" if family == "IPv4" else f"fd00:10:244:{number}::9" for number in (1, 2)]
        for number, pod in enumerate(pods, start=1):
            with entered(namespaces[f"node-{number}"]):
                length = "32" if family == "IPv4" else "128"
                flags = [] if family == "IPv4" else ["nodad"]
                subprocess.run(["ip", "address", "add", f"{pod}/{length}", "dev", "lo", *flags], check=True)
        assert _reaches(pods[0], pods[1], namespaces), family
    with entered(namespaces["node-1"]):
        before = _routes()
        _apply(tmp_path, spec, 1, nodes[:1], applied[0])
        after = _routes()
        assert len(before) - len(after) == len(spec.families)
        if spec.network == "vxlan":
            assert _forwarding() == []
        # An agent that starts afresh finds what its predecessor left for a peer that is gone, and what was lost.
        _apply(tmp_path, spec, 1, nodes)
        assert _routes() == before
        _apply(tmp_path, spec, 1, nodes[:1])
        assert _routes() == after


@pytest.mark.parametrize("network", ["vxlan", "routed"])
@isolated
def test_a_node_that_leaves_and_comes_back_elsewhere_is_reached_there(tmp_path: Path, network: str) -> None:
    spec = from_values({"nodes": 3, "network": network})
    namespaces = _wire(spec)
    first = [_node(spec, 1), _node(spec, 2)]
    # It has another address now, and another part of the pods' range; then a third node gets the old one.
    moved = [_node(spec, 1), _node(spec, 3, subnet=5)]
    with entered(namespaces["node-1"]):
        applied = _apply(tmp_path, spec, 1, first)
        for nodes in (moved, [*moved, _node(spec, 2)]):
            applied = _apply(tmp_path, spec, 1, nodes, applied)
            expected = {f"10.244.{'5' if each is moved[1] else '2'}.0/24": each for each in nodes[1:]}
            found = {each["dst"]: each["gateway"] for each in _routes() if each["dst"].startswith("10.244.")}
            assert found.keys() == expected.keys()
            if network == "routed":
                assert found == {cidr: node.status.addresses[0].address for cidr, node in expected.items()}
            else:
                assert {each["dst"] for each in _forwarding()} == {n.status.addresses[0].address for n in nodes[1:]}
        if network == "vxlan":
            # This node too can come back with another part of the range: its device has that one's address alone.
            _apply(tmp_path, spec, 1, [_node(spec, 1, subnet=7)])
            (device,) = _ip("-4", "address", "show", "dev", "vxlan0")
            assert [each["local"] for each in device["addr_info"]] == ["10.244.7.0"]


def _routes() -> list[dict[str, Any]]:
    return _ip("route") + _ip("-6", "route")


def _forwarding() -> list[dict[str, Any]]:
    shown = subprocess.run(["bridge", "-j", "fdb", "show", "dev", "vxlan0"], capture_output=True, text=True, check=True)
    return [each for each in json.loads(shown.stdout) if "dst" in each]


@isolated
def test_a_node_without_its_underlay_names_what_is_missing(tmp_path: Path) -> None:
    spec = from_values({"nodes": 2, "network": "routed"})
    with pytest.raises(NetlinkError, match="link eth0: no such link"):
        _apply(tmp_path, spec, 1, [_node(spec, 1), _node(spec, 2)])
