from netlab.scenario import NO_ANSWER, PATIENCE, REFUSED, Context, Pod, check

CLOSED = 9
"""A port at which nobody listens: whoever gets the SYN refuses it, so a refusal shows that it came through."""
API = {"IPv4": "192.0.2.254", "IPv6": "2001:db8::fe"}
"""Addresses of the machine that has the API server."""


def dial(pod: Pod, address: str, patience: float = 10) -> str:
    return pod.tcp(address, CLOSED, "", timeout=patience).text


@check("The world is reached: the policy judges the pod's own address, and only then is the source masqueraded")
def world(ctx: Context) -> None:
    careful, outside = ctx.pod("careful"), ctx.outside
    with ctx.capture(careful, outside, expression=f"tcp port {CLOSED}") as (at_pod, at_outside):
        ctx.expect(REFUSED, dial(careful, outside.address), "the outside")
    ctx.expect(careful.name, ctx.owner(at_pod.select(flags="S")[0].source), "the SYN at the pod is from")
    ctx.expect("node-1", ctx.owner(at_outside.select(flags="S")[0].source), "and at the outside from")


@check("What is excepted is not: the SYN leaves the pod, and its node drops it")
def excepted(ctx: Context) -> None:
    careful, node = ctx.pod("careful"), ctx.node("node-1")
    with ctx.capture(careful, node, expression=f"tcp port {CLOSED}") as (at_pod, at_node):
        ctx.expect(NO_ANSWER, dial(careful, API[ctx.family], PATIENCE), "the API server's machine")
    ctx.expect(True, bool(at_pod.select(flags="S")), "the SYN leaves the pod")
    ctx.expect([], at_node.packets, "and the node")


@check("A block is about addresses, be they a pod's or not; of a Service it is the pod's that counts")
def pods(ctx: Context) -> None:
    careful, server = ctx.pod("careful"), ctx.pod("server")
    ctx.expect(NO_ANSWER, careful.get(server.url(8080, "/hostname"), timeout=PATIENCE).text, "the pod")
    # 10.96.0.0/16 is not excepted, but no packet to be judged has an address of it.
    ctx.expect(NO_ANSWER, careful.get(ctx.service("server").url("/hostname"), timeout=PATIENCE).text, "its Service")


@check("An exception denies nothing: it is let in by another policy's rule")
def no_deny(ctx: Context) -> None:
    careless, server = ctx.pod("careless"), ctx.pod("server")
    ctx.expect(REFUSED, dial(careless, API[ctx.family]), "the API server's machine")
    ctx.expect(NO_ANSWER, careless.get(server.url(8080, "/hostname"), timeout=PATIENCE).text, "the pod")


@check("The pod's own node is always reached, whatever is excepted")
def own_node(ctx: Context) -> None:
    ctx.expect(REFUSED, dial(ctx.pod("careful"), ctx.node("node-1").address), "node-1")
