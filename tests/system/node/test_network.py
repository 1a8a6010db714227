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
from netlab.net.overlay import Overlay
from netlab.node.network import VTEP_MAC, NetworkConfig, PodNetwork, plan
from netlab.node.network_apply import apply
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


def _node(spec: LabSpec, number: int, mac: str) -> Node:
    cidrs = [f"10.244.{number}.0/24" if family == "IPv4" else f"fd00:10:244:{number}::/64" for family in spec.families]
    value = {
        "metadata": {"name": f"node-{number}", "annotations": {VTEP_MAC: mac} if mac else {}},
        "spec": {"podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in spec.node_addresses(number)]},
    }
    return msgspec.convert(value, Node)


def _config(spec: LabSpec, number: int) -> NetworkConfig:
    return NetworkConfig(
        node_name=f"node-{number}",
        network=spec.network,
        cluster_cidrs=tuple(spec.podCIDRs),
        mtu=spec.pod_mtu,
        cni_conf_dir=Path("/nonexistent"),
        cni_data_dir=Path("/nonexistent"),
    )


def _apply(spec: LabSpec, number: int, nodes: list[Node], applied: PodNetwork | None = None) -> tuple[PodNetwork, str]:
    wanted = plan(_config(spec, number), nodes[number - 1], nodes)
    return wanted, apply(_config(spec, number), wanted, applied) or ""


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
def test_pods_of_two_nodes_reach_each_other_untranslated_until_the_peer_is_gone(values: dict[str, Any]) -> None:
    spec = from_values(values)
    namespaces = _wire(spec)
    macs = ["", ""]
    nodes: list[Node] = []
    applied: list[PodNetwork] = []
    for _ in range(2):  # the first round makes the tunnel's ends, whose addresses the second one needs
        nodes = [_node(spec, number, macs[number - 1]) for number in (1, 2)]
        applied = []
        for number in (1, 2):
            with entered(namespaces[f"node-{number}"]):
                state, macs[number - 1] = _apply(spec, number, nodes)
                applied.append(state)
    for family in spec.families:
        pods = [f"10.244.{number}.9" if family == "IPv4" else f"fd00:10:244:{number}::9" for number in (1, 2)]
        for number, pod in enumerate(pods, start=1):
            with entered(namespaces[f"node-{number}"]):
                length = "32" if family == "IPv4" else "128"
                flags = [] if family == "IPv4" else ["nodad"]
                subprocess.run(["ip", "address", "add", f"{pod}/{length}", "dev", "lo", *flags], check=True)
        assert _reaches(pods[0], pods[1], namespaces), family
    with entered(namespaces["node-1"]):
        before = _ip("route") + _ip("-6", "route")
        alone, _ = _apply(spec, 1, nodes[:1], applied[0])
        after = _ip("route") + _ip("-6", "route")
        assert len(before) - len(after) == len(spec.families)
        assert (alone.routes, alone.overlay) == (frozenset(), Overlay())
        if spec.network == "vxlan":
            fdb = subprocess.run(["bridge", "fdb", "show", "dev", "vxlan0"], capture_output=True, text=True, check=True)
            assert macs[1] not in fdb.stdout
        # An agent that starts afresh finds what its predecessor left for a peer that is gone.
        _apply(spec, 1, nodes)
        _apply(spec, 1, nodes[:1])
        assert _ip("route") + _ip("-6", "route") == after


@isolated
def test_a_node_without_its_underlay_names_what_is_missing() -> None:
    spec = from_values({"nodes": 2, "network": "routed"})
    from netlab.net.links import LinkError

    with pytest.raises(LinkError, match="link eth0: no such link"):
        _apply(spec, 1, [_node(spec, 1, ""), _node(spec, 2, "")])
