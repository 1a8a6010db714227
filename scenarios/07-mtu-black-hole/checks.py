import json
import re

from netlab.scenario import NO_ANSWER, Answer, Context, Host, Packet, Pod, Recording, check

PORT = 8080
UNDERLAY_MTU = 1500
PATIENCE = (1, 5, 25)
"""Seconds to wait for an answer that must not come until TCP has sent the request again, which it does after a fifth of
a second, or later where all processors are busy (RFC 6298, as Linux has it)."""

PADDING = "x" * 1300
"""With it a request is one packet of an MTU of 1500, and two of the overlay's."""

TOO_BIG = {"ICMP": 3, "ICMPv6": 2}
"""The types of "destination unreachable", a code of which is "fragmentation needed" (RFC 792), and "packet too big"."""

FIREWALL = "inet netlab-demo-mtu"


def ask(client: Pod, server: Pod, *, large: bool, timeout: float = 15) -> Answer:
    padding = f"&padding={PADDING}" if large else ""
    return client.get(server.url(PORT, f"/echo?msg=hello{padding}"), timeout=timeout)


def of(client: Pod) -> str:
    """The filter for what a client exchanges: TCP, and errors that routers send it."""
    return f"host {client.address} and (tcp port {PORT} or icmp or (icmp6 and ip6[40] == 2))"


def requests(recording: Recording, client: Pod) -> list[Packet]:
    """What the client sent of its request."""
    return [p for p in recording.select(source=client.address, protocol="TCP") if p.payload]


def errors(recording: Recording, client: Pod) -> list[Packet]:
    """The packets that tell the client that one of its own was too big."""
    return [p for p in recording.select(destination=client.address) if p.icmp_type == TOO_BIG.get(p.protocol, -1)]


def known_mtu(client: Pod, server: Pod) -> str:
    """The MTU of the way to a server as far as the client's kernel has learnt it."""
    route = client.as_root(["ip", "route", "get", server.address])
    learnt = re.search(r" mtu (\d+)", route)
    return learnt[1] if learnt else "not learnt"


def packets_as_on_a_wire(ctx: Context, *pods: Pod) -> None:
    """Have TCP cut its segments itself: veths would carry larger ones whole (GSO), and captures show them so."""
    for pod in pods:
        setting = ["ip", "link", "set", "eth0", "gso_max_segs"]
        ctx.fault(pod, [*setting, "1"], undo=[*setting, "65535"])


def set_mtu(ctx: Context, pod: Pod, mtu: int) -> None:
    """Give both ends of a pod's veth another MTU."""
    (eth0,) = json.loads(pod.as_root(["ip", "-j", "link", "show", "eth0"]))
    node = ctx.node(pod.node)
    (veth,) = (link for link in json.loads(node.as_root(["ip", "-j", "link"])) if link["ifindex"] == eth0["link_index"])
    for host, link in ((node, veth["ifname"]), (pod, "eth0")):
        setting = ["ip", "link", "set", link, "mtu"]
        ctx.fault(host, [*setting, str(mtu)], undo=[*setting, str(ctx.mtu)])


def lose_errors(ctx: Context, node: Host) -> None:
    """A firewall of the kind that takes all ICMP for an attack."""
    rules = f"""
        add table {FIREWALL}
        add chain {FIREWALL} output {{ type filter hook output priority filter; }}
        add rule {FIREWALL} output icmp type destination-unreachable counter drop
        add rule {FIREWALL} output icmpv6 type packet-too-big counter drop
    """
    ctx.fault(node, ["nft", rules], undo=["nft", f"add table {FIREWALL}; delete table {FIREWALL}"])


def lost_errors(node: Host) -> int:
    """How many packets the firewall has dropped."""
    return sum(
        map(int, re.findall(r"counter packets (\d+)", node.as_root(["nft", "list", "table", *FIREWALL.split()])))
    )


@check("As it should be: pods know the MTU that the overlay leaves, and no packet is larger")
def healthy(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    packets_as_on_a_wire(ctx, client, far)
    with ctx.capture(client, far, expression=of(client)) as (sent, received):
        ctx.expect("hello", ask(client, far, large=True).text, "a large request")
    lengths = [p.length for p in requests(received, client)]
    ctx.expect(ctx.mtu, max(lengths), f"the largest of its {len(lengths)} packets, in bytes")
    ctx.expect([], errors(sent, client), "errors")


@check("Pods that assume the underlay's MTU learn better: the router drops what is too large, and says what would pass")
def told(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    for pod in (client, far):
        set_mtu(ctx, pod, UNDERLAY_MTU)
    with ctx.capture(client, expression=of(client)) as (sent,):
        ctx.expect("hello", ask(client, far, large=True).text, "a large request")
    first = requests(sent, client)[0]
    between = f"more than {ctx.mtu}, at most {UNDERLAY_MTU} bytes"
    ctx.expect(between, f"{first.length} bytes", "it leaves as", holds=ctx.mtu < first.length <= UNDERLAY_MTU)
    told_by = errors(sent, client)
    ctx.expect(client.node, ctx.owner(told_by[0].source) if told_by else "nobody", "who says that it is too large")
    ctx.expect(str(ctx.mtu), known_mtu(client, far), "the MTU that the client learns")


@check("If that error is lost there is a black hole: the connection opens, small requests pass, large ones vanish")
def black_hole(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    for node in ctx.nodes:
        lose_errors(ctx, node)
    client.as_root(["ip", "route", "flush", "cache"])  # what it has learnt it would know for ten minutes
    client.as_root(["ip", "-6", "route", "flush", "cache"])
    ctx.expect("hello", ask(client, far, large=False).text, "a small request")
    for patience in PATIENCE:
        with ctx.capture(client, far, expression=of(client)) as (sent, received):
            answer = ask(client, far, large=True, timeout=patience)
        copies = requests(sent, client)
        if len(copies) > 1:
            break
    ctx.expect(NO_ANSWER, answer.text, "a large request")
    ctx.expect("established", "established" if sent.select(flags="SA") else "not established", "the connection")
    ctx.expect("again and again", f"{len(copies)} times", "it sends the request", holds=len(copies) > 1)
    ctx.expect([], requests(received, client), "what arrives of it")
    ctx.expect([], errors(sent, client), "what the client is told")
    lost = lost_errors(ctx.node(client.node))
    ctx.expect("every time", f"{lost} times", "what its node would have said", holds=lost > 1)


@check("Repaired, the same request passes")
def repaired(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    ctx.repair()
    packets_as_on_a_wire(ctx, client, far)
    with ctx.capture(client, far, expression=of(client)) as (_, received):
        ctx.expect("hello", ask(client, far, large=True).text, "a large request")
    lengths = [p.length for p in requests(received, client)]
    ctx.expect(ctx.mtu, max(lengths), f"the largest of its {len(lengths)} packets, in bytes")
