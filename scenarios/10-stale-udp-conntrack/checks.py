import ipaddress
import re

from netlab.scenario import PATIENCE, Answer, Context, Interface, Machine, Pod, Recording, check, host_port, spare_port

PORT = 8081
CLIENT_PORT = spare_port()
"""Of the client that goes on sending from one port, as resolvers, SIP phones and syslog do."""

ANY_PORT = 0
FRESH_REQUESTS = 12
"""Requests from ports of their own that all go to one of two pods by chance once in 2^11, if both are served."""


def ring(ctx: Context, source_port: int = CLIENT_PORT, timeout: float = 15) -> Answer:
    service = ctx.service("bell")
    return ctx.pod("client").udp(service.address, service.port, "hostname", source_port=source_port, timeout=timeout)


def ring_afresh(ctx: Context) -> set[str]:
    """Who answers requests from fresh ports, which no flow has had."""
    return {ring(ctx, ANY_PORT).text for _ in range(FRESH_REQUESTS)}


def bells(ctx: Context) -> list[Pod]:
    """The backends."""
    return ctx.pods("app=bell", 2)


def tracked(ctx: Context) -> str:
    """To whom the client's node sends its flow, as connection tracking has it: the source that replies are to have."""
    listed = ctx.node(ctx.pod("client").node).as_root(["conntrack", "-L", "-f", ctx.family.lower(), *of_flow(ctx)])
    sources = re.findall(r"src=(\S+)", listed)
    return sources[1] if sources else "nobody"


def wire(ctx: Context, node: Machine) -> Interface:
    """The interface by which pods' packets leave a node."""
    return node.interface("eth1" if ctx.network == "bridge" else "eth0")


def sent_to(recording: Recording, pod: Pod) -> list[str]:
    """The packets to a pod, also those in VXLAN, in words."""
    return [str(p) for p in (p.inner or p for p in recording.packets) if p.destination == pod.address]


def of_flow(ctx: Context) -> list[str]:
    """How the conntrack program names the client's packets."""
    client, service = ctx.pod("client"), ctx.service("bell")
    names = ["-p", "udp", "--orig-src", client.address, "--orig-dst", service.address]
    return [*names, "--sport", str(CLIENT_PORT), "--dport", str(service.port)]


def free_address(left: Pod) -> str:
    """An address beside the backend's that no pod has: they are given from the first one of the node's network on."""
    prefix = 24 if "." in left.address else 64
    return str(ipaddress.ip_interface(f"{left.address}/{prefix}").network[-2])


def take_away(ctx: Context, bell: Pod) -> None:
    """Delete a backend; it does not answer any more when this returns."""
    ctx.scale(bell.name.rsplit("-", 2)[0], 0)
    ctx.until_gone(bell)


@check("A UDP flow keeps its first packet's backend: connection tracking recognises it by the client's port")
def kept(ctx: Context) -> None:
    bells(ctx)
    first = ring(ctx).text
    ctx.expect({first}, {ring(ctx).text for _ in range(FRESH_REQUESTS)}, f"who answers port {CLIENT_PORT}")
    ctx.expect(first, ctx.owner(tracked(ctx)), "who is tracked")


@check("A backend goes while kube-proxy hangs: the flow still goes to its address, where nothing answers")
def stale(ctx: Context) -> None:
    client, bell = ctx.pod("client"), ctx.pod(ring(ctx).text)
    node = ctx.node(client.node)
    ctx.hang_proxy(node)
    take_away(ctx, bell)
    with ctx.capture(client, wire(ctx, node), expression="udp") as (at_client, at_wire):
        answer = ring(ctx, timeout=PATIENCE)
    ctx.expect("no answer", answer.text, f"port {CLIENT_PORT}", holds=not answer.ok)
    sent = f"{client.endpoint(CLIENT_PORT)} > {ctx.service('bell').endpoint} UDP"
    ctx.expect([sent], [str(p) for p in at_client.select(source=client.address)], "leaves the client")
    ctx.expect(
        [f"{client.endpoint(CLIENT_PORT)} > {bell.endpoint(PORT)} UDP"], sent_to(at_wire, bell), "leaves the node"
    )
    ctx.expect(bell.address, tracked(ctx), "who is tracked")


@check("kube-proxy resumes: it changes the rules, then deletes the flow, whose next packet gets another backend")
def forgotten(ctx: Context) -> None:
    client = ctx.pod("client")
    ctx.repair()
    (left,) = ctx.pods("app=bell", 1)
    with ctx.capture(client, wire(ctx, ctx.node(client.node)), expression="udp") as (_, at_wire):
        ctx.expect(left.name, ring(ctx).text, f"port {CLIENT_PORT}")
    sent = f"{client.endpoint(CLIENT_PORT)} > {left.endpoint(PORT)} UDP"
    ctx.expect(sent, (sent_to(at_wire, left) or ["nothing"])[0], "leaves the node")
    ctx.expect(left.name, ctx.owner(tracked(ctx)), "who is tracked")


@check("Right rules are not enough: with such an entry back, new ports are served, but the flow is not")
def rules_are_not_asked(ctx: Context) -> None:
    client, (left,) = ctx.pod("client"), ctx.pods("app=bell", 1)
    node, gone = ctx.node(client.node), free_address(left)
    ctx.hang_proxy(node)  # or it would forget the flow at the next change of any Service in the lab
    node.as_root(["conntrack", "-D", *of_flow(ctx)])
    entry = [
        "conntrack",
        "-I",
        *of_flow(ctx),
        "--timeout",
        "120",
        "--dst-nat",
        host_port(gone, PORT),
    ]
    ctx.fault(node, entry, undo=["conntrack", "-D", *of_flow(ctx)])
    with ctx.capture(client, wire(ctx, node), expression="udp"):
        answers = [ring(ctx, timeout=PATIENCE) for _ in range(2)]
        ctx.expect({left.name}, ring_afresh(ctx), "fresh ports")
    ctx.expect("no answer", [a.text for a in answers], f"port {CLIENT_PORT}", holds=not any(a.ok for a in answers))
    ctx.expect(gone, tracked(ctx), "who is tracked")


@check("Deleting that one entry cures it")
def cured(ctx: Context) -> None:
    ctx.repair()
    (left,) = ctx.pods("app=bell", 1)
    ctx.expect(left.name, ring(ctx).text, f"port {CLIENT_PORT}")
    ctx.expect(left.name, ctx.owner(tracked(ctx)), "who is tracked")
