from netlab.scenario import NO_ANSWER, PATIENCE, Context, check


@check("By the pod's own node the policy sees the client: it judges before the source is masqueraded")
def own_node(ctx: Context) -> None:
    shop, node, outside = ctx.pod("shop"), ctx.node("node-2"), ctx.outside
    port = ctx.service("cluster").node_port
    with ctx.capture(outside, shop, expression="tcp") as (at_outside, at_shop):
        answer = outside.get(node.url(port, "/hostname"))
    ctx.expect("shop", answer.text, "the outside gets")
    ctx.expect(outside.name, ctx.owner(at_outside.select(flags="S")[0].source), "who dials")
    seen = at_shop.select(flags="S")[0].source
    ctx.expect(True, seen != outside.address, "and the pod sees another address", holds=seen != outside.address)


@check("By another node it sees that node, whose address the rule does not have: nothing comes back")
def other_node(ctx: Context) -> None:
    shop, node, outside = ctx.pod("shop"), ctx.node("node-1"), ctx.outside
    with ctx.capture(outside, shop, expression="tcp") as (at_outside, at_shop):
        answer = outside.get(node.url(ctx.service("cluster").node_port, "/hostname"), timeout=PATIENCE)
    ctx.expect(NO_ANSWER, answer.text, "the outside gets")
    ctx.expect(True, bool(at_outside.select(flags="S")), "the SYN leaves")
    ctx.expect([], at_shop.select(flags="S"), "and reaches the pod")


@check("With externalTrafficPolicy Local the policy and the pod see the client itself")
def local(ctx: Context) -> None:
    ctx.pod("shop")
    outside, port = ctx.outside, ctx.service("local").node_port
    answer = outside.get(ctx.node("node-2").url(port, "/clientip"))
    ctx.expect(answer.client, answer.text, "the pod sees")


@check("Probes come from the pod's own node, which every policy lets through")
def probes(ctx: Context) -> None:
    shop = ctx.pod("shop")  # ready, so it was probed
    ctx.expect("shop", ctx.node("node-2").get(shop.url(8080, "/hostname")).text, "its node gets")
    ctx.expect(NO_ANSWER, ctx.node("node-1").get(shop.url(8080, "/hostname"), timeout=PATIENCE).text, "the other")
