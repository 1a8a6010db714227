"""Names of interfaces from what the kernel tells of them."""

from __future__ import annotations

from typing import Any

from netlab.lab.network_envoy import Network
from netlab.lab.taps import Look, taps
from netlab.net.route.links import IFF_UP, Link

FABRIC, NODE = Network("fabric", "fabric"), Network("node-1", "node-1")
POD = Network("node-1", "default/web", "uid_0")


def link(index: int, name: str, kind: str = "veth", **fields: Any) -> Link:
    made = Link.__new__(Link)
    values = {"index": index, "name": name, "kind": kind, "flags": IFF_UP, "peer": 0, "peer_namespace": None}
    for field, value in (values | fields).items():
        setattr(made, field, value)
    return made


def test_the_other_end_is_where_the_kernel_says_and_not_where_an_index_fits() -> None:
    looks = [
        # Both have an interface 5, whose other end has the index 2.
        Look(FABRIC, [link(5, "port", peer=2, peer_namespace=0)], {0: NODE}),
        Look(
            NODE,
            [
                link(1, "lo", "", flags=IFF_UP | 0x8),
                link(2, "eth0", peer=5, peer_namespace=0),
                link(3, "cni0", "bridge"),
                link(4, "vxlan0", "vxlan"),
                link(5, "vethabc", peer=2, peer_namespace=1),
                link(6, "down", flags=0),
                link(7, "one", peer=8),
                link(8, "other", peer=7),
                link(9, "far", peer=1, peer_namespace=7),
            ],
            {0: FABRIC, 1: POD},
        ),
        Look(POD, [link(2, "eth0", peer=5, peer_namespace=0), link(3, "own", "dummy")], {0: NODE}),
    ]
    assert {tap.name: (tap.kind, tap.peer, network) for tap, network in taps(looks).items()} == {
        "fabric port": ("underlay", "node-1 eth0", FABRIC),
        "node-1 eth0": ("underlay", "fabric port", NODE),
        "node-1 cni0": ("bridge", "", NODE),
        "node-1 vxlan0": ("vxlan", "", NODE),
        "node-1 vethabc": ("veth", "default/web eth0", NODE),
        "node-1 one": ("underlay", "node-1 other", NODE),
        "node-1 other": ("underlay", "node-1 one", NODE),
        "node-1 far": ("other", "", NODE),
        "default/web eth0": ("pod", "node-1 vethabc", POD),
        "default/web own": ("pod", "", POD),
    }
