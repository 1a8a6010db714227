from netlab.scenario import NO_ANSWER, PATIENCE, Context, check


@check("Two peers, of which either may match: the stranger comes in, for it is a pod of some namespace")
def loose(ctx: Context) -> None:
    server = ctx.pod("loose")
    for name in ("client", "stranger"):
        ctx.expect("loose", ctx.pod(name).get(server.url(8080, "/hostname")).text, name)
    # What is no pod is of no namespace; only the server's own node is always let through.
    ctx.expect(NO_ANSWER, ctx.node("node-2").get(server.url(8080, "/hostname"), timeout=PATIENCE).text, "node-2")


@check("One peer, of which both must match: the stranger's SYN comes to the server's node, and no further")
def strict(ctx: Context) -> None:
    server, stranger = ctx.pod("strict"), ctx.pod("stranger")
    ctx.expect("strict", ctx.pod("client").get(server.url(8080, "/hostname")).text, "client")
    with ctx.capture(stranger, server, expression="tcp port 8080") as (at_stranger, at_server):
        answer = stranger.get(server.url(8080, "/hostname"), timeout=PATIENCE)
    ctx.expect(NO_ANSWER, answer.text, "stranger")
    ctx.expect(True, bool(at_stranger.select(flags="S")), "the SYN leaves the stranger")
    ctx.expect([], at_server.packets, "and reaches the server")


@check("A policy about ingress says nothing about what the server itself begins, nor stops the answers to that")
def answers(ctx: Context) -> None:
    stranger = ctx.pod("stranger")
    ctx.expect("stranger", ctx.pod("strict").get(stranger.url(8080, "/hostname")).text, "strict asks")
