import socket

from netlab.scenario import Context, Machine, Service, check


def shop(ctx: Context) -> Service:
    """The Service, once it has its address."""
    ctx.pods("app=shop", 2)
    return ctx.eventually(lambda: ctx.service("shop"), lambda each: each.external_address != "", "no address was given")


def announcer(ctx: Context) -> str:
    """The node that the outside takes for the address's owner: the one whose MAC address it has."""
    entry = ctx.outside.as_root(["ip", "neigh", "show", shop(ctx).external_address]).split()
    mac = entry[entry.index("lladdr") + 1] if "lladdr" in entry else ""
    return next((node.name for node in ctx.nodes if mac and mac == mac_of(node)), "nobody")


def mac_of(node: Machine) -> str:
    return node.as_root(["ip", "-br", "link", "show", "eth0"]).split()[2]


def entered(ctx: Context) -> list[str]:
    """The nodes by which new connections to the address enter."""
    service, nodes = shop(ctx), ctx.nodes
    expression = f"tcp dst port {service.port} and dst host {service.external_address}"
    with ctx.capture(*nodes, expression=expression) as recordings:
        answers = [ctx.outside.get(service.external_url("/hostname")) for _ in range(4)]
    ctx.expect([True] * 4, [answer.ok for answer in answers], "answered")
    return [node.name for node, recording in zip(nodes, recordings, strict=True) if recording.select(flags="S")]


def open_connection(ctx: Context) -> socket.socket:
    service = shop(ctx)
    client = ctx.outside.socket(socket.SOCK_STREAM, 0, 30, service.external_address)
    client.connect((service.external_address, service.port))
    return client


def spoken(client: socket.socket) -> str:
    """What becomes of a request on an open connection."""
    try:
        client.sendall(b"GET /hostname HTTP/1.1\r\nHost: shop\r\n\r\n")
        return client.recv(4096).split(b"\r\n")[0].decode() or "closed"
    except OSError as error:
        return error.strerror or str(error)


@check("No interface has the address. One node answers for it, and by that node everything enters")
def announced(ctx: Context) -> None:
    address = shop(ctx).external_address
    ctx.expect([], [machine.name for machine in [*ctx.nodes, ctx.outside] if machine.owns(address)], "who has it")
    nodes = entered(ctx)
    ctx.expect([announcer(ctx)], nodes, "where connections enter")


@check("Its kube-proxy hangs: another node takes over unasked, new connections enter there, and open ones are lost")
def taken_over(ctx: Context) -> None:
    entered(ctx)
    first = announcer(ctx)
    with open_connection(ctx) as client:
        ctx.expect("HTTP/1.1 200 OK", spoken(client), "a request on an open connection, before")
        ctx.hang_proxy(ctx.node(first))
        second = ctx.eventually(lambda: announcer(ctx), lambda name: name != first, f"{first} went on answering")
        ctx.expect([second], entered(ctx), "where connections enter")
        ctx.expect("Connection reset by peer", spoken(client), "a request on the same connection, after")


@check("The node is back, and leaves the address where it is: another change would break connections again")
def stays(ctx: Context) -> None:
    entered(ctx)
    second = announcer(ctx)
    ctx.repair()
    ctx.expect([second], entered(ctx), "where connections enter")
    ctx.expect(second, announcer(ctx), "who answers")
