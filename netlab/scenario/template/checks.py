from netlab.scenario import Context, check


@check("The server answers, and sees the client's own address")
def answers(ctx: Context) -> None:
    client, server = ctx.pod("client"), ctx.pod("server")
    answer = client.get(server.url(8080, "/clientip"))
    ctx.expect(answer.client, answer.text, "the server sees")


@check("The packet that leaves the client arrives as it is")
def arrives(ctx: Context) -> None:
    client, server = ctx.pod("client"), ctx.pod("server")
    with ctx.capture(client, server, expression="tcp port 8080") as (sent, received):
        client.get(server.url(8080, "/hostname"))
    # The kubelet's probes pass the server's interface too.
    first = sent.first(source=client.address, flags="S")
    ctx.expect(first, received.first(source=client.address, flags="S"), "the SYN at both ends")
