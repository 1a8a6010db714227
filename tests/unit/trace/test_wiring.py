"""The wires of a lab as values and as a tree."""

from __future__ import annotations

from netlab.cli.topology import lines
from netlab.trace.state import Address, Forwarding, Link, Namespace, Vxlan
from netlab.trace.wiring import End, Tunnel, machines

_NODE = Namespace(
    "node-1",
    "node-1",
    links=(
        Link("lo", "loopback"),
        Link("eth0", "veth", "02:00:00:00:00:01", peer=("fabric", "node-1")),
        Link("vxlan0", "vxlan", mtu=1450, vxlan=Vxlan(1, "192.0.2.1", 4789, "eth0")),
        Link("cni0", "bridge", mtu=1450),
        Link("veth1", "veth", mtu=1450, peer=("default/a", "eth0"), master="cni0", up=False),
    ),
    addresses=(Address("192.0.2.1", 24, "eth0"), Address("fe80::1", 64, "eth0", "link")),
    forwarding=(
        Forwarding("02:00:00:00:00:02", "vxlan0", "192.0.2.3"),
        Forwarding("02:00:00:00:00:03", "vxlan0", "192.0.2.2"),
        Forwarding("02:00:00:00:00:04", "vxlan0", "192.0.2.2"),
        Forwarding("02:00:00:00:00:05", "veth1"),
    ),
)
_POD = Namespace(
    "default/a",
    "node-1",
    links=(Link("eth0", "veth", peer=("node-1", "veth1")),),
    addresses=(Address("10.244.1.2", 24, "eth0"),),
)


def test_each_interface_says_what_it_leads_to() -> None:
    (machine,) = machines({"node-1": _NODE, "default/a": _POD})
    assert (machine.name, [pod.name for pod in machine.pods]) == ("node-1", ["default/a"])
    found = {each.name: each for each in machine.interfaces}
    assert found["eth0"].peer == End("fabric", "node-1")
    assert found["eth0"].addresses == ["192.0.2.1/24", "fe80::1/64"]
    assert found["cni0"].ports == ["veth1"]
    assert (found["veth1"].bridge, found["veth1"].up, found["veth1"].peer) == ("cni0", False, End("default/a", "eth0"))
    assert found["vxlan0"].vxlan == Tunnel(1, 4789, "192.0.2.1", "eth0", ["192.0.2.2", "192.0.2.3"])
    assert [each.peer for each in machine.pods[0].interfaces] == [End("node-1", "veth1")]


def test_the_tree_has_ports_below_their_bridge_and_pods_below_their_node() -> None:
    assert [line for line, _ in lines(machines({"node-1": _NODE, "default/a": _POD}))] == [
        "node-1",
        "├─ eth0                192.0.2.1/24  ── fabric node-1",
        "├─ vxlan0              VXLAN 1  from 192.0.2.1 to 192.0.2.2, 192.0.2.3, port 4789",
        "├─ cni0                bridge",
        "│  └─ veth1            down  ── default/a eth0",
        "└─ pod default/a",
        "   └─ eth0             10.244.1.2/24  ── node-1 veth1",
    ]


def test_a_machine_without_pods_ends_with_its_last_interface() -> None:
    outside = Namespace("outside", "outside", links=(Link("eth0", "veth", peer=("fabric", "outside")),))
    assert [line for line, _ in lines(machines({"outside": outside}))] == [
        "outside",
        "└─ eth0                ── fabric outside",
    ]
