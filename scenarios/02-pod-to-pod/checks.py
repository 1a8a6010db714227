from netlab.scenario import Context, Pod, check, spare_port

HTTP, UDP = 8080, 8081
CLIENT_PORT = spare_port()
HEADERS = {"IPv4": 20 + 8, "IPv6": 40 + 8}
"""Bytes of the IP and UDP headers."""

ROUTERS = {"vxlan": 2, "routed": 2, "bridge": 0}
"""Between pods of two nodes: each node routes, except where all pods are on one segment."""


def sees_the_clients_address(ctx: Context, server: Pod) -> None:
    client = ctx.pod("client")
    answer = client.get(server.url(HTTP, "/clientip"))
    ctx.expect(client.address, answer.source, "the client sends from")
    ctx.expect(answer.client, answer.text, "the server sees")


@check("On one node, the server sees the client pod's own address")
def no_translation_on_one_node(ctx: Context) -> None:
    sees_the_clients_address(ctx, ctx.pod("near"))


@check("Across nodes, the server sees the client pod's own address")
def no_translation_across_nodes(ctx: Context) -> None:
    sees_the_clients_address(ctx, ctx.pod("far"))


@check("Both ends capture the same packets: the addresses and ports that left the client arrive at the server")
def same_packet_at_both_ends(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    with ctx.capture(client, far, expression=f"tcp port {HTTP} and host {client.address}") as (sent, received):
        client.get(far.url(HTTP, "/hostname"), source_port=CLIENT_PORT)
    for flags, what in (("S", "SYN"), ("SA", "SYN-ACK")):
        ctx.expect(sent.first(flags=flags), received.first(flags=flags), what)


@check("On one node the packet is bridged; across nodes each router takes one off its TTL")
def routers_on_the_way(ctx: Context) -> None:
    client = ctx.pod("client")
    for server, expected in ((ctx.pod("near"), 0), (ctx.pod("far"), ROUTERS[ctx.network])):
        with ctx.capture(client, server, expression=f"udp port {UDP} and host {client.address}") as (sent, received):
            client.udp(server.address, UDP, "hostname")
        ttl = [recording.select(destination=server.address)[0].ttl for recording in (sent, received)]
        ctx.expect(f"{expected} routers", f"{ttl[0] - ttl[1]} routers", f"to {server.name} ({ttl[0]} -> {ttl[1]})")


@check("Between the nodes the pods' packet travels unchanged: inside VXLAN, routed, or on one segment")
def seen_on_the_wire(ctx: Context) -> None:
    client, far, node, peer = ctx.pod("client"), ctx.pod("far"), ctx.node("node-1"), ctx.node("node-2")
    wires = [each.interface("eth1" if ctx.network == "bridge" else "eth0") for each in (node, peer)]
    with ctx.capture(client, *wires, far, expression=f"udp port {UDP} and host {client.address}") as (_, wire, *_):
        answer = client.udp(far.address, UDP, "hostname", source_port=CLIENT_PORT)
    ctx.expect("far", answer.text, "the answer")
    outer = wire.packets
    if ctx.network == "vxlan":
        ctx.expect(f"{node.address} to {peer.address}", f"{outer[0].source} to {outer[0].destination}", "outside")
        ctx.expect(4789, outer[0].destination_port, "UDP port")
    pods_packet = next(p.inner or p for p in outer)
    ctx.expect(f"{answer.client} > {far.endpoint(UDP)} UDP", str(pods_packet), "the pods' packet")


@check("A packet of exactly the pods' MTU passes whole, and a larger one does not leave the pod")
def largest_packet(ctx: Context) -> None:
    client, far = ctx.pod("client"), ctx.pod("far")
    room = ctx.mtu - HEADERS[ctx.family] - len("echo ")
    with ctx.capture(client, far, expression=f"udp and host {client.address}") as (_, received):
        answer = client.udp(far.address, UDP, "echo " + "x" * room, fragment=False)
    ctx.expect(f"{room} bytes", f"{len(answer.text)} bytes", "the echo")
    request = received.select(source=client.address)
    ctx.expect([ctx.mtu], [p.length for p in request], "the packets that arrived, in bytes")
    ctx.expect([False], [p.fragment for p in request], "fragments")
    larger = client.udp(far.address, UDP, "echo " + "x" * (room + 1), fragment=False)
    ctx.expect("Message too long", larger.text, "one byte more")
