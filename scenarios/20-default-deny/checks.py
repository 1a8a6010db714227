import socket

from netlab.scenario import NO_ANSWER, PATIENCE, Context, Pod, check

DIG = ["dig", "+short", "+time=1", "+tries=1"]
DNS = {"IPv4": "10.96.0.10", "IPv6": "fd00:10:96::a"}


def full_name(ctx: Context) -> str:
    """Of the shop, as DNS has it."""
    return f"shop.{ctx.namespace}.svc.cluster.local."


def address(ctx: Context, pod: Pod, *options: str) -> str:
    """What DNS says about the shop, or why it says nothing."""
    kind = "A" if ctx.family == "IPv4" else "AAAA"
    return pod.run([*DIG, *options, full_name(ctx), kind])


def question(pod: Pod, server: str, name: str, patience: float = 10) -> str:
    """Whether a server answers one question about a name (RFC 1035, section 4.1)."""
    labels = [label.encode() for label in name.split(".")]  # the last one is empty: the root
    asked = b"".join(bytes([len(label)]) + label for label in labels)
    with pod.socket(socket.SOCK_DGRAM, 0, patience, server) as asking:
        asking.connect((server, 53))
        asking.send(bytes.fromhex("002a 0100 0001 0000 0000 0000") + asked + bytes.fromhex("0001 0001"))
        try:
            return "an answer" if asking.recv(512) else "nothing"
        except TimeoutError:
            return NO_ANSWER


def needs_dns(ctx: Context, pod: Pod) -> Pod:
    """The pod, in a lab with cluster DNS that knows the shop."""
    if "nameserver" not in pod.run(["cat", "/etc/resolv.conf"]):
        ctx.skip("the lab has no cluster DNS (`netlab up --dns`)")
    ctx.eventually(lambda: address(ctx, ctx.pod("thoughtful")), lambda said: said == ctx.service("shop").address)
    return pod


@check("Every pod is isolated in both directions, and the policies open one way: from the clients to the shop")
def one_way(ctx: Context) -> None:
    forgetful, shop = ctx.pod("forgetful"), ctx.pod("shop")
    ctx.expect("shop", forgetful.get(ctx.service("shop").url("/hostname")).text, "by the Service's address")
    answer = shop.tcp(forgetful.address, 8080, "hostname", timeout=PATIENCE)
    ctx.expect(NO_ANSWER, answer.text, "the shop asks the client")


@check("But nobody can find it: the question for its name leaves the pod, and is dropped on the way to DNS")
def forgotten(ctx: Context) -> None:
    forgetful = needs_dns(ctx, ctx.pod("forgetful"))
    with ctx.capture(forgetful, expression="udp port 53") as (packets,):
        said = forgetful.run(["/agnhost", "connect", "--timeout=1s", f"{full_name(ctx)}:80"])
    ctx.expect("DNS: ... failure in name resolution", said, "connecting by name", holds=said.startswith("DNS"))
    asked = [packet for packet in packets.packets if packet.destination_port == 53]
    ctx.expect("1 or more", len(asked), "questions", holds=bool(asked))
    ctx.expect([], packets.select(source_port=53), "answers")


@check("A rule with the address in /etc/resolv.conf does not help: it is translated before policies judge")
def by_address(ctx: Context) -> None:
    mistaken = needs_dns(ctx, ctx.pod("mistaken"))
    ctx.expect(NO_ANSWER, question(mistaken, DNS[ctx.family], full_name(ctx), PATIENCE), f"{DNS[ctx.family]} says")
    thoughtful = ctx.pod("thoughtful")
    ctx.expect("an answer", question(thoughtful, DNS[ctx.family], full_name(ctx)), "and to another pod")


@check("A rule with the labels of the DNS pods does, by UDP and by TCP")
def by_labels(ctx: Context) -> None:
    thoughtful = needs_dns(ctx, ctx.pod("thoughtful"))
    shop = ctx.service("shop")
    ctx.expect(shop.address, address(ctx, thoughtful), "dig")
    ctx.expect(shop.address, address(ctx, thoughtful, "+tcp"), "dig +tcp")
    ctx.expect("", thoughtful.run(["/agnhost", "connect", "--timeout=5s", "shop:80"]), "connecting by name")
