import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from netlab.scenario import NO_ANSWER, PATIENCE, Context, Machine, Pod, Recording, check, spare_port

CLIENT_PORT = spare_port()


def ask(node: Machine, *argv: str) -> list[dict[str, Any]]:
    """What a command of iproute2 knows."""
    answer: list[dict[str, Any]] = json.loads(node.as_root(argv) or "[]")
    return answer


TRAFFIC = f"port {CLIENT_PORT} or udp port 4789 or icmp or (icmp6 and ip6[40] == 1)"
"""The pods' packets, bare and within VXLAN, and errors that they may meet (ICMPv6's type 1: unreachable)."""


class Way(NamedTuple):
    """How a packet leaves its node: three tables, each asked with what the one before it said."""

    gateway: str
    """Of the route: the other node's end of the overlay."""
    mac: str
    """Of the neighbour: the other node's VXLAN device."""
    endpoints: list[str]
    """Of the forwarding database (FDB): where on the underlay that device is."""


def way(node: Machine, address: str) -> Way:
    gateway = ask(node, "ip", "-j", "route", "get", address)[0]["gateway"]
    mac = ask(node, "ip", "-j", "neighbour", "show", gateway, "dev", "vxlan0")[0]["lladdr"]
    entries = ask(node, "bridge", "-j", "fdb", "show", "dev", "vxlan0")
    return Way(gateway, mac, [entry["dst"] for entry in entries if entry["mac"] == mac and "dst" in entry])


@contextmanager
def entry_removed(ctx: Context) -> Iterator[None]:
    """node-1 without its FDB entry for node-2, for the block."""
    node = ctx.node("node-1")
    _, mac, (endpoint,) = way(node, ctx.pod("far").address)
    entry = [mac, "dev", "vxlan0", "dst", endpoint]
    # `replace` is not for entries with an endpoint: `append` adds one, and has nothing against its being there.
    with ctx.fault(node, ["bridge", "fdb", "del", *entry], undo=["bridge", "fdb", "append", *entry, "self"]):
        yield


def dropped(node: Machine) -> int:
    """How many packets the VXLAN device of a node had to send and could not."""
    return int(node.as_root(["cat", "/sys/class/net/vxlan0/statistics/tx_dropped"]))


def carried(underlay: Recording, source: Pod) -> list[str]:
    """The pod's SYNs in the VXLAN packets of an underlay, each once: a SYN that is sent again looks the same."""
    inner = [packet.inner for packet in underlay.packets if packet.inner is not None]
    return sorted({str(packet) for packet in inner if packet.source == source.address and packet.flags == "S"})


@check("What enters the VXLAN device leaves on the underlay, inside a packet from node to node")
def whole(ctx: Context) -> None:
    near, far, node = ctx.pod("near"), ctx.pod("far"), ctx.node("node-1")
    with ctx.capture(node.interface("vxlan0"), node, expression=TRAFFIC) as (overlay, underlay):
        answer = near.get(far.url(8080, "/hostname"), source_port=CLIENT_PORT)
    ctx.expect("far", answer.text, "who answers")
    syn = f"{answer.client} > {far.endpoint(8080)} TCP [S]"
    ctx.expect(syn, overlay.first(flags="S"), "enters vxlan0")
    ctx.expect([syn], carried(underlay, near), "leaves eth0 in VXLAN")


@check("Without the entry the packet enters the VXLAN device and is gone: no error, no answer, only a counter")
def vanishes(ctx: Context) -> None:
    near, far, node = ctx.pod("near"), ctx.pod("far"), ctx.node("node-1")
    with entry_removed(ctx):
        before = dropped(node)
        vxlan0 = node.interface("vxlan0")
        with ctx.capture(near, vxlan0, node, far, expression=TRAFFIC) as (sent, overlay, underlay, received):
            answer = near.get(far.url(8080, "/hostname"), source_port=CLIENT_PORT, timeout=PATIENCE)
        lost = dropped(node) - before
    ctx.expect(NO_ANSWER, answer.text, "near asks far")
    ctx.expect(
        f"{near.endpoint(CLIENT_PORT)} > {far.endpoint(8080)} TCP [S]", overlay.first(flags="S"), "enters vxlan0"
    )
    ctx.expect([], carried(underlay, near), "leaves eth0 in VXLAN")
    ctx.expect([], received.select(source=near.address), "reaches far")
    ctx.expect([], sent.select(destination=near.address), "comes back")
    ctx.expect("1 or more", lost, "packets that vxlan0 had to drop", holds=lost >= 1)


@check("Route and neighbour entry are unchanged: only the third table shows the fault")
def hard_to_see(ctx: Context) -> None:
    node, far = ctx.node("node-1"), ctx.pod("far")
    before = way(node, far.address)
    with entry_removed(ctx):
        after = way(node, far.address)
    ctx.expect(before.gateway, after.gateway, "the route leads to")
    ctx.expect(before.mac, after.mac, "which the neighbour entry says has")
    ctx.expect(1, len(before.endpoints), "FDB entries for that, before")
    ctx.expect(0, len(after.endpoints), "and after")


@check("The other way round the request arrives, and the answer dies: the fault is on the node that answers")
def one_way(ctx: Context) -> None:
    near, far = ctx.pod("near"), ctx.pod("far")
    with entry_removed(ctx), ctx.capture(near, far, expression=TRAFFIC) as (at_near, at_far):
        answer = far.get(near.url(8080, "/hostname"), source_port=CLIENT_PORT, timeout=PATIENCE)
    ctx.expect(NO_ANSWER, answer.text, "far asks near")
    client, server = far.endpoint(CLIENT_PORT), near.endpoint(8080)
    ctx.expect(f"{client} > {server} TCP [S]", at_near.first(flags="S"), "reaches near")
    ctx.expect(f"{server} > {client} TCP [SA]", at_near.first(flags="SA"), "leaves near")
    ctx.expect("nothing", at_far.first(flags="SA"), "reaches far")


@check("With the entry back, the next packet is on the underlay again, in both directions")
def repaired(ctx: Context) -> None:
    near, far, node = ctx.pod("near"), ctx.pod("far"), ctx.node("node-1")
    with entry_removed(ctx):
        ctx.expect(NO_ANSWER, near.get(far.url(8080, "/hostname"), timeout=PATIENCE).text, "before")
    with ctx.capture(node.interface("vxlan0"), node, expression=TRAFFIC) as (overlay, underlay):
        answer = near.get(far.url(8080, "/hostname"), source_port=CLIENT_PORT)
    ctx.expect("far", answer.text, "near asks far")
    ctx.expect("near", far.get(near.url(8080, "/hostname")).text, "far asks near")
    syn = f"{answer.client} > {far.endpoint(8080)} TCP [S]"
    ctx.expect(syn, overlay.first(flags="S"), "enters vxlan0")
    ctx.expect([syn], carried(underlay, near), "leaves eth0 in VXLAN")
