import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from netlab.scenario import NO_ANSWER, PATIENCE, Answer, Context, Fault, Host, check, spare_port

CLIENT_PORT = spare_port()
OTHER_PORT = CLIENT_PORT + 1
"""For a connection that the server goes on to believe in."""

TRAFFIC = "tcp or icmp or (icmp6 and ip6[40] == 1)"
"""Connections, and errors that they may meet (ICMPv6's type 1: unreachable)."""

TUNNEL = "dsr0"
TUNNEL_ID, TUNNEL_PORT = "100", "4789"
"""Of a VXLAN with two ends; by IANA's port (RFC 7348) everything that reads packets knows it."""

NODE_MAC, OUTSIDE_MAC = "02:00:00:00:00:01", "02:00:00:00:00:fd"
NODE_END = {"IPv4": "203.0.113.1/32", "IPv6": "2001:db8:2::1/128"}

STRICT, LOOSE = "1", "2"
"""The values of the sysctl rp_filter (RFC 3704, 2.2 and 2.4)."""

TABLE = "netlab-demo-rpfilter"


@contextmanager
def load_balancer(ctx: Context) -> Iterator[None]:
    """A tunnel from the outside to node-1, for the block; packets for the Service's external address go through it."""
    node, outside, address = ctx.node("node-1"), ctx.outside, ctx.service("shop").external_address
    ctx.pod("shop")
    with ExitStack() as stack:
        for end, other, mac in ((node, outside, NODE_MAC), (outside, node, OUTSIDE_MAC)):
            link = ["ip", "link", "add", TUNNEL, "address", mac, "type", "vxlan", "id", TUNNEL_ID]
            link += ["dstport", TUNNEL_PORT, "local", end.address, "remote", other.address]
            stack.enter_context(ctx.fault(end, link, undo=["ip", "link", "delete", TUNNEL]))
            end.as_root(["ip", "link", "set", TUNNEL, "up"])
        # An interface without an address is strict even where it is to be loose (fib_validate_source's last resort).
        node.as_root(["ip", "address", "add", NODE_END[ctx.family], "dev", TUNNEL])
        # No interface has the address, so nothing would answer for its MAC address.
        outside.as_root(["ip", "neighbour", "add", address, "lladdr", NODE_MAC, "dev", TUNNEL])
        outside.as_root(["ip", "route", "add", address, "dev", TUNNEL])
        yield


def set_filter(ctx: Context, host: Host, interface: str, value: str) -> Fault:
    """Have a host look where what comes in by an interface comes from.

    IPv4 has a sysctl for it. IPv6 has none (RFC 3704 is done by netfilter there, as firewalld does it): it gets the
    same as a rule.
    """
    if ctx.family == "IPv4":
        setting = f"net.ipv4.conf.{interface}.rp_filter"
        return ctx.fault(host, ["sysctl", "-w", f"{setting}={value}"], undo=["sysctl", "-w", f"{setting}=0"])
    way = "saddr . iif" if value == STRICT else "saddr"
    chain = (
        "type filter hook prerouting priority raw;"
        f' iifname "{interface}" icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept;'
        f' iifname "{interface}" fib {way} oif missing counter drop;'
    )
    table = f"table ip6 {TABLE}-{value}"
    return ctx.fault(
        host, ["nft", f"{table} {{ chain prerouting {{ {chain} }}; }}"], undo=["nft", f"add {table}; delete {table}"]
    )


def filtered(ctx: Context, host: Host) -> int:
    """How many packets a host has dropped because of where they come from."""
    if ctx.family == "IPv4":
        lines = [line.split() for line in host.as_root(["cat", "/proc/net/netstat"]).splitlines()]
        names, values = (line for line in lines if line[0] == "TcpExt:")
        return int(values[names.index("IPReversePathFilter")])
    listed = json.loads(host.as_root(["nft", "-j", "list", "table", "ip6", f"{TABLE}-{STRICT}"]))["nftables"]
    statements = [statement for item in listed if "rule" in item for statement in item["rule"]["expr"]]
    return sum(statement["counter"]["packets"] for statement in statements if "counter" in statement)


def ask(ctx: Context, timeout: float = 15, source_port: int = CLIENT_PORT) -> Answer:
    """What the world is told at the external address: the address of the client that the server sees."""
    return ctx.outside.get(ctx.service("shop").external_url("/clientip"), source_port=source_port, timeout=timeout)


@check("Requests come through the load balancer's tunnel, answers go straight to the client: two ways, one connection")
def two_ways(ctx: Context) -> None:
    node, outside, service = ctx.node("node-1"), ctx.outside, ctx.service("shop")
    client = outside.endpoint(CLIENT_PORT)
    with load_balancer(ctx), ctx.capture(node.interface(TUNNEL), outside, expression=TRAFFIC) as (tunnel, straight):
        answer = ask(ctx)
    ctx.expect(client, answer.text, "the server sees")
    ctx.expect(f"{client} > {service.external_endpoint} TCP [S]", tunnel.first(flags="S"), "comes by the tunnel")
    ctx.expect([], tunnel.select(destination=outside.address), "goes back by the tunnel")
    ctx.expect(f"{service.external_endpoint} > {client} TCP [SA]", straight.first(flags="SA"), "goes back straight")


@check("Strict on the tunnel: the request reaches the node and no further; there is no error, only a counter")
def request_dropped(ctx: Context) -> None:
    node, outside, shop = ctx.node("node-1"), ctx.outside, ctx.pod("shop")
    external = ctx.service("shop").external_endpoint
    with (
        load_balancer(ctx),
        set_filter(ctx, node, TUNNEL, STRICT),
        ctx.capture(node.interface(TUNNEL), shop, outside, expression=TRAFFIC) as (tunnel, at_pod, straight),
    ):
        before = filtered(ctx, node)
        answer = ask(ctx, PATIENCE)
        dropped = filtered(ctx, node) - before
    ctx.expect(NO_ANSWER, answer.text, "the client gets")
    ctx.expect(f"{outside.endpoint(CLIENT_PORT)} > {external} TCP [S]", tunnel.first(flags="S"), "comes by the tunnel")
    ctx.expect([], at_pod.select(source=outside.address), "reaches the pod")
    ctx.expect([], straight.select(destination=outside.address), "goes back")
    ctx.expect("1 or more", dropped, "packets dropped for where they come from", holds=dropped >= 1)


@check("Strict at the client instead: the answer arrives, and the client's kernel drops it")
def reply_dropped(ctx: Context) -> None:
    outside, external = ctx.outside, ctx.service("shop").external_endpoint
    with (
        load_balancer(ctx),
        set_filter(ctx, outside, "eth0", STRICT),
        ctx.capture(outside, expression=TRAFFIC) as (straight,),
    ):
        before = filtered(ctx, outside)
        answer = ask(ctx, PATIENCE, OTHER_PORT)
        dropped = filtered(ctx, outside) - before
    ctx.expect(NO_ANSWER, answer.text, "the client gets")
    ctx.expect(
        f"{external} > {outside.endpoint(OTHER_PORT)} TCP [SA]", straight.first(flags="SA"), "arrives at its eth0"
    )
    ctx.expect("1 or more", dropped, "packets dropped for where they come from", holds=dropped >= 1)


@check("Strict does no harm where request and answer take the same path: a node port, dialled directly")
def same_way(ctx: Context) -> None:
    node, outside, service = ctx.node("node-1"), ctx.outside, ctx.service("shop")
    ctx.pod("shop")
    with set_filter(ctx, node, "eth0", STRICT), set_filter(ctx, outside, "eth0", STRICT):
        text = outside.get(f"http://{node.endpoint(service.node_port)}/hostname").text
    ctx.expect("shop", text, "who answers")


@check("Loose is the repair: it accepts any source that has a route, and the answer is back")
def repaired(ctx: Context) -> None:
    node, outside, shop = ctx.node("node-1"), ctx.outside, ctx.pod("shop")
    client, external = outside.endpoint(CLIENT_PORT), ctx.service("shop").external_endpoint
    with load_balancer(ctx):
        with set_filter(ctx, node, TUNNEL, STRICT):
            ctx.expect(NO_ANSWER, ask(ctx, PATIENCE).text, "strict")
        with (
            set_filter(ctx, node, TUNNEL, LOOSE),
            ctx.capture(node.interface(TUNNEL), shop, outside, expression=TRAFFIC) as (tunnel, at_pod, straight),
        ):
            answer = ask(ctx)
    ctx.expect(client, answer.text, "loose")
    ctx.expect(f"{client} > {external} TCP [S]", tunnel.first(flags="S"), "comes by the tunnel")
    # Not the connection of the check before: its server sends its answer again, and the client refuses that now.
    seen, answered = at_pod.first(source_port=CLIENT_PORT), straight.first(flags="SA", destination_port=CLIENT_PORT)
    ctx.expect(f"{client} > {shop.endpoint(8080)} TCP [S]", seen, "reaches the pod")
    ctx.expect(f"{external} > {client} TCP [SA]", answered, "goes back straight")
