from collections import Counter

from netlab.scenario import FALSE_ALARM, Context, Host, Pod, Service, check, fair_range, spare_port

BACKENDS = 3
REQUESTS = 300
CLIENT_PORT = spare_port()


SAMPLE = 60
"""Requests none of which goes to one of three backends by chance once in ten thousand million times."""


def backends(ctx: Context) -> list[Pod]:
    """The Service's pods."""
    return ctx.pods("app=web", BACKENDS)


def answers(client: Host, service: Service, count: int) -> Counter[str]:
    return Counter(client.get(service.url("/hostname")).text for _ in range(count))


@check("Every backend answers at the Service's virtual address, which no interface has")
def every_backend_answers(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("web")
    pods = backends(ctx)
    ctx.expect({pod.name for pod in pods}, set(answers(client, service, SAMPLE)), "who answers")
    ctx.expect([], [node.name for node in ctx.nodes if node.owns(service.address)], "who has the address")


@check(f"Each backend gets a share that random choice allows (false alarm: one run in {1 / FALSE_ALARM:,.0f} at most)")
def fair_share(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("web")
    pods = backends(ctx)
    low, high = fair_range(REQUESTS, BACKENDS)
    counts = answers(client, service, REQUESTS)
    shares = [counts.pop(pod.name, 0) for pod in pods]
    ctx.expect(
        f"of {REQUESTS} requests {low} to {high} each, and no other answer",
        f"{shares}, {dict(counts) or 'no other'}",
        holds=not counts and all(low <= share <= high for share in shares),
    )


@check("The destination is rewritten on the way there, the source on the way back; the client keeps its address")
def rewritten_and_back(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("web")
    pods = backends(ctx)
    with ctx.capture(client, *pods, expression=f"tcp and host {client.address}") as (at_client, *at_pods):
        answer = client.get(service.url("/hostname"), source_port=CLIENT_PORT)
    backend, at_backend = next(
        (pod, recording) for pod, recording in zip(pods, at_pods, strict=True) if pod.name == answer.text
    )
    virtual, real = service.endpoint, backend.endpoint(8080)
    ctx.expect(f"{answer.client} > {virtual} TCP [S]", at_client.first(flags="S"), "leaves the client")
    ctx.expect(f"{answer.client} > {real} TCP [S]", at_backend.first(flags="S"), "reaches the backend")
    ctx.expect(f"{real} > {answer.client} TCP [SA]", at_backend.first(flags="SA"), "leaves the backend")
    ctx.expect(f"{virtual} > {answer.client} TCP [SA]", at_client.first(flags="SA"), "reaches the client")


@check("UDP is balanced too, and its answers come from the virtual address")
def udp(ctx: Context) -> None:
    client, service = ctx.pod("client"), ctx.service("web")
    names = {pod.name for pod in ctx.pods("app=web", BACKENDS)}
    # A connected socket only accepts datagrams from the address it sent to.
    seen = {client.udp(service.address, service.port, "hostname").text for _ in range(SAMPLE)}
    ctx.expect(names, seen, "who answers")


@check("A pod reaches itself through its Service: it sees its node's address, so the answer goes back through the node")
def hairpin(ctx: Context) -> None:
    mirror, service = ctx.pod("mirror"), ctx.service("mirror")
    ctx.expect("mirror", mirror.get(service.url("/hostname")).text, "who answers")
    with ctx.capture(mirror, expression="tcp port 80 or tcp port 8080") as (packets,):
        seen = mirror.get(service.url("/clientip"), source_port=CLIENT_PORT).text
    ctx.expect(mirror.node, ctx.owner(seen.rpartition(":")[0].strip("[]")), f"the client it sees ({seen})")
    leaving = packets.select(flags="S", source=mirror.address)
    ctx.expect(service.endpoint, service.endpoint if leaving else "nothing", "leaves for")
    # On a slow machine it is sent again meanwhile, and looks the same.
    returning = {str(p) for p in packets.select(flags="S", destination=mirror.address, destination_port=8080)}
    ctx.expect("once", "once" if len(returning) == 1 else f"{len(returning)} times", "comes back to its own port 8080")


@check("A node reaches the Service too; the outside world has no route to its address")
def from_elsewhere(ctx: Context) -> None:
    service, node = ctx.service("web"), ctx.node("node-1")
    ctx.expect({pod.name for pod in backends(ctx)}, set(answers(node, service, SAMPLE)), "from node-1")
    ctx.expect("Network is unreachable", ctx.outside.get(service.url("/hostname")).text, "from outside")
