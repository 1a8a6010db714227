import contextlib
import json
from collections.abc import Iterator

from netlab.scenario import NO_ANSWER, PATIENCE, Answer, Context, Machine, Pod, check, spare_port

PORT = 8080
CLIENT_PORT = spare_port()

LENGTH = {"IPv4": 32, "IPv6": 128}

FILTER = f"tcp port 80 or tcp port {PORT}"


def open_shop(ctx: Context, pod: str) -> Pod:
    """Have a pod be ready."""
    ctx.unready_pod(pod).run(["touch", "/tmp/open"])
    return ctx.pod(pod)


@contextlib.contextmanager
def balanced_to(ctx: Context, service: str, node: str) -> Iterator[None]:
    """A load balancer that gives a Service's connections to one node, for the block: a route of the outside's."""
    address = f"{ctx.service(service).external_address}/{LENGTH[ctx.family]}"
    with ctx.fault(
        ctx.outside,
        ["ip", "route", "replace", address, "via", ctx.node(node).address],
        undo=["ip", "-6" if ctx.family == "IPv6" else "-4", "route", "flush", address],
    ):
        yield


def ask(ctx: Context, service: str, timeout: float = 15, source_port: int = 0) -> Answer:
    """Who the client is, as the server sees it."""
    url = ctx.service(service).external_url("/clientip")
    return ctx.outside.get(url, timeout=timeout, source_port=source_port)


def client_of(answer: Answer) -> str:
    """The address in what /clientip answered."""
    return answer.text.rpartition(":")[0].strip("[]")


def health(ctx: Context, node: Machine) -> str:
    """What a node says to a load balancer that asks whether it has backends of the Service `local`."""
    answer = ctx.outside.get(node.url(ctx.service("local").health_check_node_port, "/healthz"))
    return f"{answer.status}, {json.loads(answer.text)['localEndpoints']} local" if answer.status else answer.text


def healths(ctx: Context) -> list[str]:
    return [f"{node} {health(ctx, node)}" for node in ctx.nodes[:2]]


HERE, GONE = "200, 1 local", "503, 0 local"


@check("Under policy Cluster any node serves: it forwards the connection to the pod's node, and hides the client")
def cluster(ctx: Context) -> None:
    shop, node = open_shop(ctx, "shop-1"), ctx.node("node-2")
    external = ctx.service("anywhere").external_endpoint
    points = [ctx.outside, node, ctx.node("node-1"), shop]
    with balanced_to(ctx, "anywhere", "node-2"), ctx.capture(*points, expression=FILTER) as (outside, *_, at_shop):
        answer = ask(ctx, "anywhere")
    ctx.expect("node-2", ctx.owner(client_of(answer)), f"the client that shop-1 sees ({answer.text})")
    ctx.expect(f"{answer.client} > {external} TCP [S]", outside.first(flags="S"), "leaves the client")
    ctx.expect(f"{answer.text} > {shop.endpoint(PORT)} TCP [S]", at_shop.first(flags="S"), "reaches the pod")


@check("Under policy Local a node only uses its own pods, which see the client's own address")
def local(ctx: Context) -> None:
    shop = open_shop(ctx, "shop-1")
    points = [ctx.outside, ctx.node("node-1"), shop]
    with balanced_to(ctx, "local", "node-1"), ctx.capture(*points, expression=FILTER) as (*_, at_shop):
        answer = ask(ctx, "local")
    ctx.expect(answer.client, answer.text, "the client that shop-1 sees")
    ctx.expect(f"{answer.client} > {shop.endpoint(PORT)} TCP [S]", at_shop.first(flags="S"), "reaches the pod")


@check("A load balancer that does not check the nodes loses connections: the other node drops the packet silently")
def wrong_node(ctx: Context) -> None:
    node_1, node_2 = ctx.node("node-1"), ctx.node("node-2")
    external = ctx.service("local").external_endpoint
    with (
        balanced_to(ctx, "local", "node-2"),
        ctx.capture(ctx.outside, node_2, node_1, expression=f"tcp port {CLIENT_PORT}") as recordings,
    ):
        ctx.expect(NO_ANSWER, ask(ctx, "local", PATIENCE, CLIENT_PORT).text, "through node-2")
    outside, at_node_2, at_node_1 = recordings
    syn = outside.first(flags="S")
    ctx.expect(f"> {external} TCP [S]", syn, "leaves the client", holds=syn.endswith(f"> {external} TCP [S]"))
    # On a slow machine it is sent again meanwhile, and looks the same.
    ctx.expect({syn}, {str(p) for p in at_node_2.packets}, "at node-2, there and back")
    ctx.expect([], at_node_1.packets, "at node-1")


@check("The health check node port says whether a node has backends: 200 with, 503 without")
def health_check(ctx: Context) -> None:
    ctx.expect([f"node-1 {HERE}", f"node-2 {GONE}"], healths(ctx))


@check("When the backend moves, the answers swap: a load balancer that follows them keeps serving")
def moved(ctx: Context) -> None:
    ctx.pod("shop-1").run(["rm", "/tmp/open"])
    open_shop(ctx, "shop-2")
    ctx.until_unready("shop-1")
    ctx.expect([f"node-1 {GONE}", f"node-2 {HERE}"], healths(ctx))
    with balanced_to(ctx, "local", "node-1"):
        ctx.expect(NO_ANSWER, ask(ctx, "local", PATIENCE).text, "one that stays with node-1")
    with balanced_to(ctx, "local", "node-2"):
        answer = ask(ctx, "local")
        ctx.expect(answer.client, answer.text, "one that turns to node-2: the client that shop-2 sees")
