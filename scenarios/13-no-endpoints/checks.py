import ipaddress

from netlab.scenario import NO_ANSWER, PATIENCE, REFUSED, Answer, Context, Packet, Pod, Recording, check, spare_port

CLIENT_PORT = spare_port()
WRONG_PORT = 81
PREFIX = {"IPv4": 16, "IPv6": 112}
"""How long the prefix of the Service CIDR is."""
UNREACHABLE = {"ICMP": 3, "ICMPv6": 1}
"""The type of "destination unreachable" (RFC 792, RFC 4443)."""
ERRORS = "icmp or (icmp6 and ip6[40] == 1)"


def wrong_address(ctx: Context) -> str:
    """An address that no Service has: near the end of the range, for they are given from its beginning."""
    service = ctx.service("shop").address
    return str(ipaddress.ip_interface(f"{service}/{PREFIX[ctx.family]}").network[-6])


def refused(client: Pod, address: str, port: int) -> Answer:
    """What a client gets at once, or, over IPv6, a second later.

    Linux takes an ICMP error that comes while connect(2) still sends for a passing one: with a network as short as this
    it may believe the second, which answers the SYN that is sent again.
    """
    return client.tcp(address, port, "hostname")


def refusals(recording: Recording, client: Pod) -> list[Packet]:
    """The packets that say no: ICMP's "destination unreachable"."""
    to_client = recording.select(destination=client.address)
    return [packet for packet in to_client if packet.icmp_type == UNREACHABLE.get(packet.protocol, -1)]


@check("A Service without endpoints refuses: the client's own node answers, and nothing leaves it")
def no_endpoints(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("shop")
    node = ctx.node(client.node)
    traffic = f"{ERRORS} or host {service.address}"
    ctx.expect(REFUSED, refused(client, service.address, service.port).text, "TCP")
    with ctx.capture(client, node, expression=traffic) as (at_client, underlay):
        ctx.expect(REFUSED, client.udp(service.address, service.port, "hostname").text, "UDP")
    said = refusals(at_client, client)
    ctx.expect("ICMP unreachable", said[0] if said else "nothing", "the client is told", holds=bool(said))
    ctx.expect(node.name, ctx.owner(said[0].source), "by")
    ctx.expect([], underlay.select(destination=service.address), "leaves the node")


@check("A port that the Service does not have is refused in the same way")
def wrong_port(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("shop")
    with ctx.capture(client, expression=f"{ERRORS} or host {service.address}") as (at_client,):
        answer = refused(client, service.address, WRONG_PORT)
    ctx.expect(REFUSED, answer.text, f"port {WRONG_PORT}")
    said = refusals(at_client, client)
    ctx.expect("ICMP unreachable", said[0] if said else "nothing", "the client is told", holds=bool(said))


@check("An address that no Service has is dropped: the SYN leaves the client, and nothing ever comes back")
def wrong_address_dropped(ctx: Context) -> None:
    client, address = ctx.pod("client"), wrong_address(ctx)
    node = ctx.node(client.node)
    with ctx.capture(client, node, expression=f"{ERRORS} or host {address}") as (at_client, underlay):
        answer = client.tcp(address, 80, "hostname", source_port=CLIENT_PORT, timeout=PATIENCE)
    ctx.expect(NO_ANSWER, answer.text, "TCP")
    syn = at_client.select(destination=address, flags="S", source_port=CLIENT_PORT)
    ctx.expect("the SYN", syn[0] if syn else "nothing", "leaves the client", holds=bool(syn))
    ctx.expect([], at_client.select(destination=client.address), "comes back")
    ctx.expect([], underlay.select(destination=address), "leaves the node")


@check("With endpoints and the right address and port there is an answer; the other two mistakes still fail")
def repaired(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("shop")
    ctx.scale("shop", 1)
    (shop,) = ctx.pods("app=shop", 1)
    answer = client.get(service.url("/hostname"), source_port=CLIENT_PORT)
    ctx.expect(shop.name, answer.text, "who answers, TCP")
    with ctx.capture(client, shop, expression="udp port 80 or udp port 8081") as (at_client, at_shop):
        udp = client.udp(service.address, service.port, "hostname", source_port=CLIENT_PORT)
    ctx.expect(shop.name, udp.text, "who answers, UDP")
    ctx.expect(f"{udp.client} > {service.endpoint} UDP", at_client.first(source=client.address), "leaves the client")
    ctx.expect(f"{udp.client} > {shop.endpoint(8081)} UDP", at_shop.first(source=client.address), "reaches the pod")
    ctx.expect(REFUSED, refused(client, service.address, WRONG_PORT).text, "the wrong port")
    ctx.expect(NO_ANSWER, client.tcp(wrong_address(ctx), 80, "hostname", timeout=PATIENCE).text, "the wrong address")
