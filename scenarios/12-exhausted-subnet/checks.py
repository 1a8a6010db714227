import ipaddress
import json
import sys
from typing import Any

from netlab.scenario import REFUSED, Context, Machine, check

RESERVATIONS = "/run/netlab/cni/networks"
"""The `dataDir` of a node's IPAM plugin."""

ERRORS = "icmp or (icmp6 and ip6[40] == 1)"
"""The filter for "destination unreachable" (ICMPv6's type 1)."""

REPLACE = 'umask 077 && printf "%s\\n" "$1" >"$0.new" && mv "$0.new" "$0"'
"""A script that gives the file $0 the text $1, at once: the kubelet may read it at any time."""


def reservations(node: Machine) -> dict[str, str]:
    """What `netlab cni ipam list` shows on a node: each address that is not free, and the sandbox that holds it."""
    argv = [sys.executable, "-m", "netlab", "cni", "ipam", "list", "--data-dir", RESERVATIONS, "-o", "json"]
    return {row["address"]: row["containerID"] for row in json.loads(node.as_root(argv))}


def narrow(ctx: Context, node: Machine) -> list[str]:
    """Leave the node two addresses for pods, which nobody has yet; the addresses."""
    path = ctx.cni_configuration(node)
    text = path.read_text()
    configuration = json.loads(text)
    range_ = range_of(ctx, configuration)
    taken = reservations(node)
    first = ipaddress.ip_address(range_.get("rangeStart") or ipaddress.ip_network(range_["subnet"])[2])
    while str(first) in taken or str(first + 1) in taken:
        first += 1
    pair = [str(first), str(first + 1)]
    range_["rangeStart"], range_["rangeEnd"] = pair
    replace = ["sh", "-c", REPLACE, str(path)]
    ctx.fault(node, [*replace, json.dumps(configuration, indent=2)], undo=[*replace, text.strip()])
    return pair


def range_of(ctx: Context, configuration: dict[str, Any]) -> dict[str, Any]:
    """The range of a network configuration that is of the run's family."""
    ranges: list[dict[str, Any]] = [each[0] for each in configuration["plugins"][0]["ipam"]["ranges"]]
    return next(each for each in ranges if f"IPv{ipaddress.ip_network(each['subnet']).version}" == ctx.family)


def by_number(address: str) -> int:
    """What addresses are sorted by."""
    return int(ipaddress.ip_address(address))


def pair_of(ctx: Context, node: Machine) -> list[str]:
    """The two addresses that the node has for pods."""
    range_ = range_of(ctx, json.loads(ctx.cni_configuration(node).read_text()))
    return [range_["rangeStart"], range_["rangeEnd"]]


def no_address(ctx: Context) -> str:
    """What the waiting pod says, once it has been refused an address."""
    return ctx.eventually(lambda: ctx.trouble("app=late"), lambda text: "addresses" in text)


@check("A node with two addresses runs two pods; the third waits in ContainerCreating, and says why")
def no_address_left(ctx: Context) -> None:
    ctx.pod("client")
    pair = narrow(ctx, ctx.node("node-1"))
    ctx.scale("early", 2)
    ctx.expect(pair, sorted((pod.address for pod in ctx.pods("app=early", 2)), key=by_number), "the first two get")
    ctx.scale("late", 1)
    trouble = no_address(ctx)
    waits, _, told = trouble.partition(" CNI plugin netlab: ")
    ctx.expect("ContainerCreating", waits, "the third", holds=waits.endswith("ContainerCreating"))
    said = f"network netlab: all 2 addresses of {'-'.join(pair)} are reserved"
    # The message goes on with a remedy.
    ctx.expect(f"{said} (by whom)", told.partition("; ")[0], "why", holds=told.startswith(said))


@check("`netlab cni ipam list` on the node shows who holds them: the sandboxes of the two")
def who_holds_them(ctx: Context) -> None:
    held, trouble = reservations(ctx.node("node-1")), no_address(ctx)
    for pod in ctx.pods("app=early", 2):
        ctx.expect(pod.uid, held.get(pod.address, "nobody").partition("_")[0], f"{pod.address} is held for pod")
        ctx.expect("yes", "yes" if held[pod.address] in trouble else "no", "as the waiting pod says")


@check("A pod without an address is not an endpoint: its Service refuses, and there is nothing else to capture")
def refused_meanwhile(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("late")
    with ctx.capture(client, expression=f"host {service.address} or {ERRORS}") as (packets,):
        # Linux may believe only the second ICMP error, a second later (see 04-readiness).
        ctx.expect(REFUSED, client.get(service.url("/hostname")).text, "the Service")
    said = [packet for packet in packets.select(destination=client.address) if packet.icmp_type is not None]
    ctx.expect("ICMP unreachable", said[0] if said else "nothing", "the client is told", holds=bool(said))


@check("When one of the two ends, the third gets its address: a client that still dials it reaches a stranger")
def freed(ctx: Context) -> None:
    client, service, node = ctx.pod("client"), ctx.service("late"), ctx.node("node-1")
    before = pair_of(ctx, node)
    ctx.scale("early", 1)
    (late,) = ctx.pods("app=late", 1)
    ctx.expect(f"one of {', '.join(before)}", late.address, "the third gets", holds=late.address in before)
    with ctx.capture(client, late, expression="tcp port 80 or tcp port 8080") as (at_client, at_late):
        answer = client.get(service.url("/hostname"))
    ctx.expect(late.name, answer.text, "who answers at the Service")
    ctx.expect(f"{answer.client} > {service.endpoint} TCP [S]", at_client.first(flags="S"), "leaves the client")
    ctx.expect(
        f"{answer.client} > {late.endpoint(8080)} TCP [S]",
        at_late.first(flags="S", source=client.address),
        "reaches the address that was another's",
    )
    ctx.expect(late.name, client.get(late.url(8080, "/hostname")).text, "who answers at the address")


@check("With the whole range back, there are addresses for all")
def repaired(ctx: Context) -> None:
    node = ctx.node("node-1")
    pair = pair_of(ctx, node)
    ctx.repair()
    ctx.scale("early", 2)
    everybody = [*ctx.pods("app=early", 2), *ctx.pods("app=late", 1)]
    beyond = [pod.address for pod in everybody if pod.address not in pair]
    ctx.expect(1, len(beyond), "pods with an address beyond the two")
    client = ctx.pod("client")
    for pod in everybody:
        ctx.expect(pod.name, client.get(pod.url(8080, "/hostname")).text, "who answers")
