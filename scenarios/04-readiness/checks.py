from netlab.scenario import REFUSED, Context, check

UNREACHABLE = {"ICMP": 3, "ICMPv6": 1}
"""The type of "destination unreachable" (RFC 792, RFC 4443)."""

SAMPLE = 40
"""Requests that all go to one of two pods by chance once in 2^39, if both are in the Service."""


def who_answers(ctx: Context) -> set[str]:
    client, service = ctx.pod("client"), ctx.service("web")
    return {client.get(service.url("/hostname")).text for _ in range(SAMPLE)}


@check("A Service without a ready pod refuses connections, even though its pod would answer")
def no_ready_pod(ctx: Context) -> None:
    client, never, service = ctx.pod("client"), ctx.unready_pod("never"), ctx.service("never")
    direct = ctx.eventually(lambda: client.get(never.url(8080, "/hostname")).text, lambda text: text == "never")
    ctx.expect("never", direct, "the pod itself")
    # Linux takes an ICMP error that comes while connect(2) still sends for a passing one: with a network as short as
    # this it may believe the second, a second later.
    ctx.expect(REFUSED, client.get(service.url("/hostname")).text, "the Service, TCP")
    ctx.expect(REFUSED, client.udp(service.address, service.port, "hostname").text, "the Service, UDP")


@check("A refusal is an answer: the client's node says that the destination is unreachable, or resets the connection")
def refusal_on_the_wire(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("never")
    with ctx.capture(client, expression=f"icmp or icmp6 or host {service.address}") as (packets,):
        client.get(service.url("/hostname"))
    said = [
        packet
        for packet in packets.select(destination=client.address)
        if packet.icmp_type == UNREACHABLE.get(packet.protocol, -1) or "R" in packet.flags
    ]
    ctx.expect("ICMP type 3, ICMPv6 type 1 or a TCP reset", said[0] if said else "nothing", holds=bool(said))


@check("A pod that becomes unready leaves the Service, and the other one gets everything")
def leaves(ctx: Context) -> None:
    ctx.pods("app=web", 2)
    ctx.expect({"web-1", "web-2"}, who_answers(ctx), "at first")
    ctx.pod("web-1").run(["touch", "/tmp/unready"])
    ctx.until_unready("web-1")
    ctx.expect({"web-2"}, who_answers(ctx), "web-1 being unready")


@check("When it is ready again, it returns")
def comes_back(ctx: Context) -> None:
    ctx.unready_pod("web-1").run(["rm", "-f", "/tmp/unready"])
    ctx.pods("app=web", 2)
    ctx.expect({"web-1", "web-2"}, who_answers(ctx))
