from netlab.scenario import PATIENCE, Answer, Context, check

REQUESTS = 18
"""Connections that all go to one of two nodes by chance once in 2^17."""
LENGTH = {"IPv4": 32, "IPv6": 128}


def hash_ports(ctx: Context) -> None:
    """Have the outside choose by addresses and ports, and not by addresses alone: it is one client."""
    policy = f"net.{ctx.family.lower()}.fib_multipath_hash_policy"
    ctx.fault(ctx.outside, ["sysctl", "-qw", f"{policy}=1"], undo=["sysctl", "-qw", f"{policy}=0"])


def asked(ctx: Context) -> tuple[list[Answer], dict[str, set[int]]]:
    """The answers to connections from fresh ports, and by which node those of which port entered."""
    service = ctx.service("shop")
    expression = f"tcp dst port {service.port} and dst host {service.external_address}"
    with ctx.capture(*ctx.nodes, expression=expression) as recordings:
        url = service.external_url("/hostname")
        answers = [ctx.outside.get(url, timeout=PATIENCE) for _ in range(REQUESTS)]
    pairs = zip(ctx.nodes, recordings, strict=True)
    return answers, {node.name: {packet.source_port for packet in each.packets} for node, each in pairs}


@check("Every connection goes to one of the nodes, chosen by its addresses and ports: about half to each")
def spread(ctx: Context) -> None:
    ctx.pod("shop")
    hash_ports(ctx)
    answers, ports = asked(ctx)
    ctx.expect({"shop"}, {answer.text for answer in answers}, "who answers")
    ctx.expect([], sorted(ports["node-1"] & ports["node-2"]), "ports whose packets went to both")
    ctx.expect([node.name for node in ctx.nodes[:2]], [name for name in ports if ports[name]], "nodes that were used")


@check("A node's cable is pulled. A route that nobody looks after does not notice: its share gets no answer")
def unnoticed(ctx: Context) -> None:
    ctx.pod("shop")
    hash_ports(ctx)
    ctx.fault(ctx.fabric, ["ip", "link", "set", "node-2", "down"], undo=["ip", "link", "set", "node-2", "up"])
    answers, ports = asked(ctx)
    ctx.expect([], sorted(ports["node-2"]), "ports that node-2 sees")
    lost = sum(not answer.ok for answer in answers)
    ctx.expect("some, and not all", f"{lost} of {REQUESTS}", "lost", holds=0 < lost < REQUESTS)


@check("Without that next hop all are served: what BGP does when a session ends")
def withdrawn(ctx: Context) -> None:
    address = f"{ctx.service('shop').external_address}/{LENGTH[ctx.family]}"
    version = "-6" if ctx.family == "IPv6" else "-4"
    with ctx.fault(
        ctx.outside,
        ["ip", "route", "replace", address, "via", ctx.node("node-1").address],
        undo=["ip", version, "route", "flush", address],
    ):
        answers, ports = asked(ctx)
    ctx.expect({"shop"}, {answer.text for answer in answers}, "who answers")
    ctx.expect(REQUESTS, len(ports["node-1"]), "connections by node-1")
