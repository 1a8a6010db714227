"""Traces made by hand: what [trace] would observe in a lab of two nodes."""

from __future__ import annotations

import msgspec

from netlab.capture.taps import Kind
from netlab.trace.model import Direction, Hop, Path, Trace, Verdict
from tests.changes import change

CLIENT, SERVER, VIRTUAL = ("10.244.1.2", 40000), ("10.244.2.3", 8080), ("10.96.0.10", 80)
TUNNEL = "VXLAN 1 192.0.2.1 > 192.0.2.2"
BACK = "VXLAN 1 192.0.2.2 > 192.0.2.1"
OVERLAY = "route 10.244.2.0/24 via 10.244.2.0 dev vxlan0"
FDB = "FDB entry 02:00:0a:f4:02:00 dst 192.0.2.2 of vxlan0"
RULE = "Service default/web:http (nftables kube-proxy, chain pick-2): endpoint 2 of 2"


def hop(
    place: tuple[str, str, str, Kind],
    direction: Direction,
    ends: tuple[tuple[str, int], tuple[str, int]],
    after: int,
    *,
    ttl: int = 64,
    encapsulation: str = "",
    changed: tuple[str, ...] = (),
    by: tuple[str, ...] = (),
) -> Hop:
    node, owner, interface, kind = place
    (src, sport), (dst, dport) = ends
    return Hop(
        node, owner, interface, kind, direction, src, sport, dst, dport, "tcp", ttl, encapsulation,
        list(map(change, changed)), list(by), after * 1000,
    )  # fmt: skip


POD: tuple[str, str, str, Kind] = ("node-1", "default/client", "eth0", "pod")
VETH: tuple[str, str, str, Kind] = ("node-1", "node-1", "veth3f21a0", "veth")
BRIDGE: tuple[str, str, str, Kind] = ("node-1", "node-1", "cni0", "bridge")
VXLAN: tuple[str, str, str, Kind] = ("node-1", "node-1", "vxlan0", "vxlan")
ETH: tuple[str, str, str, Kind] = ("node-1", "node-1", "eth0", "underlay")
PORT_1: tuple[str, str, str, Kind] = ("fabric", "fabric", "node-1", "underlay")
PORT_2: tuple[str, str, str, Kind] = ("fabric", "fabric", "node-2", "underlay")
FAR_ETH: tuple[str, str, str, Kind] = ("node-2", "node-2", "eth0", "underlay")
FAR_VXLAN: tuple[str, str, str, Kind] = ("node-2", "node-2", "vxlan0", "vxlan")
FAR_BRIDGE: tuple[str, str, str, Kind] = ("node-2", "node-2", "cni0", "bridge")
FAR_VETH: tuple[str, str, str, Kind] = ("node-2", "node-2", "veth77b0c1", "veth")
FAR_POD: tuple[str, str, str, Kind] = ("node-2", "default/web-6f9c-x2x7k", "eth0", "pod")


def over_the_tunnel() -> Trace:
    """From a pod to a Service's endpoint on another node, as predicted."""
    dnat = "DNAT 10.96.0.10:80 -> 10.244.2.3:8080"
    first, then = (CLIENT, VIRTUAL), (CLIENT, SERVER)
    hops = [
        hop(POD, "out", first, 0, by=("route default via 10.244.1.1 dev eth0",)),
        hop(VETH, "in", first, 9),
        hop(BRIDGE, "in", first, 14),
        hop(VXLAN, "out", then, 61, ttl=63, changed=(dnat, "TTL 64 -> 63"), by=(RULE, OVERLAY)),
        hop(ETH, "out", then, 74, ttl=63, encapsulation=TUNNEL, changed=(f"into {TUNNEL}",), by=(FDB,)),
        hop(PORT_1, "in", then, 82, ttl=63, encapsulation=TUNNEL),
        hop(PORT_2, "out", then, 90, ttl=63, encapsulation=TUNNEL),
        hop(FAR_ETH, "in", then, 97, ttl=63, encapsulation=TUNNEL),
        hop(FAR_VXLAN, "in", then, 110, ttl=63, changed=("out of VXLAN 1",)),
        hop(FAR_BRIDGE, "out", then, 128, ttl=62, changed=("TTL 63 -> 62",), by=("route 10.244.2.0/24 dev cni0",)),
        hop(FAR_VETH, "out", then, 133, ttl=62),
        hop(FAR_POD, "in", then, 139, ttl=62),
    ]  # fmt: skip
    un_nat = "un-DNAT 10.244.2.3:8080 -> 10.96.0.10:80"
    answer, answered = (SERVER, CLIENT), (VIRTUAL, CLIENT)
    reply = [
        hop(FAR_POD, "out", answer, 181),
        hop(FAR_VETH, "in", answer, 186),
        hop(FAR_BRIDGE, "in", answer, 190),
        hop(FAR_VXLAN, "out", answer, 205, ttl=63, changed=("TTL 64 -> 63",)),
        hop(FAR_ETH, "out", answer, 214, ttl=63, encapsulation=BACK, changed=("into VXLAN 1 192.0.2.2 > 192.0.2.1",)),
        hop(PORT_2, "in", answer, 222, ttl=63, encapsulation=BACK),
        hop(PORT_1, "out", answer, 228, ttl=63, encapsulation=BACK),
        hop(ETH, "in", answer, 233, ttl=63, encapsulation=BACK),
        hop(VXLAN, "in", answer, 241, ttl=63, changed=("out of VXLAN 1",)),
        hop(BRIDGE, "out", answered, 262, ttl=62, changed=(un_nat, "TTL 63 -> 62"), by=("conntrack of node-1",)),
        hop(VETH, "out", answered, 268, ttl=62),
        hop(POD, "in", answered, 274, ttl=62),
    ]
    verdict = Verdict("delivered", "node-2", "default/web-6f9c-x2x7k answered with SYN, ACK")
    foretold = [msgspec.structs.replace(each, nanoseconds=0) for each in hops]
    answers = [msgspec.structs.replace(each, nanoseconds=0) for each in reply]
    near = msgspec.structs.replace(
        foretold[3], dst="10.244.1.3", dport=8080, changed=[change("DNAT 10.96.0.10:80 -> 10.244.1.3:8080")]
    )
    other = Path(
        [*foretold[:3], near],
        answers[-3:],
        Verdict("delivered", "node-1", "default/web-6f9c-q8r2m listens on port 8080"),
    )
    path = Path(foretold, answers, Verdict("delivered", "node-2", "default/web-6f9c-x2x7k listens on port 8080"))
    return Trace("default/client", "svc/web:80", "tcp", hops, reply, verdict, [other, path], agrees=True)


def lost_in_the_tunnel() -> Trace:
    """The same, but node-1 does not know behind which node the other's pods are."""
    whole = over_the_tunnel()
    return msgspec.structs.replace(
        whole,
        hops=whole.hops[:4],
        reply=[],
        verdict=Verdict(
            "dropped", "node-1", "vxlan0 has no FDB entry for 02:00:0a:f4:02:00, so it sends the frame to nobody"
        ),
        agrees=False,
        differences=["hop 5: predicted node-1 eth0 out, in VXLAN 1 192.0.2.1 > 192.0.2.2; observed nothing"],
    )


def hairpin() -> Trace:
    """A pod that reaches itself through its Service: it passes the same interfaces twice."""
    virtual, own, lent = ("fd00:10:96::a", 80), ("fd00:10:244:1::5", 8080), ("fd00:10:244:1::1", 61234)
    me = ("fd00:10:244:1::5", 40000)
    pod: tuple[str, str, str, Kind] = ("node-1", "default/mirror", "eth0", "pod")
    hops = [
        hop(pod, "out", (me, virtual), 0),
        hop(VETH, "in", (me, virtual), 7),
        hop(BRIDGE, "in", (me, virtual), 11),
        hop(BRIDGE, "out", (lent, own), 52, ttl=63, changed=("DNAT", "SNAT", "TTL 64 -> 63"), by=(RULE, "masquerade")),
        hop(VETH, "out", (lent, own), 57, ttl=63),
        hop(pod, "in", (lent, own), 60, ttl=63),
    ]
    reply = [
        hop(pod, "out", (own, lent), 90),
        hop(VETH, "in", (own, lent), 94),
        hop(BRIDGE, "in", (own, lent), 97),
        hop(BRIDGE, "out", (virtual, me), 120, ttl=63, changed=("un-SNAT", "un-DNAT")),
        hop(VETH, "out", (virtual, me), 124, ttl=63),
        hop(pod, "in", (virtual, me), 127, ttl=63),
    ]
    verdict = Verdict("delivered", "node-1", "default/mirror answered")
    return Trace("default/mirror", "svc/mirror:80", "tcp", hops, reply, verdict, [], agrees=False)
