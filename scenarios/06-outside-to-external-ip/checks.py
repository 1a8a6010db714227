from netlab.scenario import Answer, Context, Host, check, spare_port

CLIENT_PORT = spare_port()


def ask(ctx: Context, client: Host, path: str, source_port: int = 0) -> Answer:
    """Ask at the external address."""
    ctx.pod("shop")
    return client.get(ctx.service("shop").external_url(path), source_port=source_port)


@check("The outside reaches the Service at its external address, which no interface has")
def reached_from_outside(ctx: Context) -> None:
    ctx.expect("shop", ask(ctx, ctx.outside, "/hostname").text, "who answers")
    address = ctx.service("shop").external_address
    ctx.expect([], [host.name for host in [*ctx.nodes, ctx.outside] if host.owns(address)], "who has the address")


@check("The server sees the address of the node that the packet came through")
def masqueraded(ctx: Context) -> None:
    seen = ask(ctx, ctx.outside, "/clientip").text
    owner = ctx.owner(seen.rpartition(":")[0].strip("[]"))
    ctx.expect("a node", owner, f"the client it sees ({seen})", holds=owner in [node.name for node in ctx.nodes])


@check("The answer comes from the external address; at the server it has the pod's own")
def translated_and_back(ctx: Context) -> None:
    shop, service, outside = ctx.pod("shop"), ctx.service("shop"), ctx.outside
    external = service.external_endpoint
    points = [outside, *ctx.nodes, shop]
    with ctx.capture(*points, expression="tcp port 80 or tcp port 8080") as (at_client, *_, at_server):
        answer = ask(ctx, outside, "/clientip", CLIENT_PORT)
    ctx.expect(f"{answer.client} > {external} TCP [S]", at_client.first(flags="S"), "leaves the client")
    ctx.expect(
        {f"{answer.text} > {shop.endpoint(8080)} TCP [S]"},
        {str(p) for p in at_server.select(flags="S") if str(p).startswith(f"{answer.text} ")},
        "reaches the server",
    )
    ctx.expect(f"{external} > {answer.client} TCP [SA]", at_client.first(flags="SA"), "reaches the client")


@check("A pod reaches the external address too, without leaving the cluster")
def reached_from_a_pod(ctx: Context) -> None:
    client = ctx.pod("client")
    with ctx.capture(ctx.outside, client, expression="tcp port 80") as (outside, _):
        ctx.expect("shop", ask(ctx, client, "/hostname").text, "who answers")
    ctx.expect(0, len(outside.packets), "packets seen outside")
