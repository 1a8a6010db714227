from netlab.scenario import NO_ANSWER, PATIENCE, Answer, Context, check, spare_port

CLIENT_PORT = spare_port()
WITH, WITHOUT = "node-1", "node-2"
"""The node with the backend, and the one without."""


def ask(ctx: Context, service: str, node: str, path: str, source_port: int = 0) -> Answer:
    """Ask at a node's port from outside."""
    ctx.pod("backend")
    return ctx.outside.get(ctx.node(node).url(ctx.service(service).node_port, path), source_port=source_port)


def client_of(answer: Answer) -> str:
    """The address in what /clientip answered."""
    return answer.text.rpartition(":")[0].strip("[]")


@check("Every node answers on the Service's port, with or without a backend of its own")
def every_node_answers(ctx: Context) -> None:
    for node in (WITH, WITHOUT):
        ctx.expect("backend", ask(ctx, "anywhere", node, "/hostname").text, node)


@check("Under policy Cluster the server sees the node's address, so that answers return through the node")
def policy_cluster_masquerades(ctx: Context) -> None:
    for node in (WITH, WITHOUT):
        answer = ask(ctx, "anywhere", node, "/clientip")
        ctx.expect(node, ctx.owner(client_of(answer)), f"through {node}, the client it sees ({answer.text})")


@check("The client sees none of that: the answer comes from the address and port that it dialled")
def translated_back(ctx: Context) -> None:
    backend, outside, node = ctx.pod("backend"), ctx.outside, ctx.node(WITHOUT)
    port = ctx.service("anywhere").node_port
    points = [outside, node, ctx.node(WITH), backend]
    with ctx.capture(*points, expression=f"tcp port {port} or tcp port 8080") as (at_client, *_, at_backend):
        answer = ask(ctx, "anywhere", WITHOUT, "/hostname", CLIENT_PORT)
    ctx.expect(f"{answer.client} > {node.endpoint(port)} TCP [S]", at_client.first(flags="S"), "leaves the client")
    translated = [
        p for p in at_backend.select(flags="S", destination=backend.address) if ctx.owner(p.source) == WITHOUT
    ]
    ctx.expect(
        f"{WITHOUT} > {backend.endpoint(8080)}",
        f"{ctx.owner(translated[0].source)} > {backend.endpoint(8080)}" if translated else "nothing",
        "reaches the backend",
    )
    ctx.expect(f"{node.endpoint(port)} > {answer.client} TCP [SA]", at_client.first(flags="SA"), "reaches the client")


@check("Under policy Local the server sees the client's own address, on the node that has the backend")
def policy_local_keeps_the_source(ctx: Context) -> None:
    answer = ask(ctx, "local", WITH, "/clientip")
    ctx.expect(ctx.outside.address, client_of(answer), f"through {WITH}")


@check("Under policy Local a node without a backend does not answer")
def policy_local_without_backend(ctx: Context) -> None:
    ctx.pod("backend")
    url = ctx.node(WITHOUT).url(ctx.service("local").node_port, "/hostname")
    ctx.expect(NO_ANSWER, ctx.outside.get(url, timeout=PATIENCE).text, f"through {WITHOUT}")
