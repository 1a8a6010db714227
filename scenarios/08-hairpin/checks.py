from netlab.scenario import NO_ANSWER, PATIENCE, Answer, Context, Packet, Pod, Recording, check

PORT = 8080

TABLE = "netlab-demo-hairpin"
NFT = {"IPv4": "ip", "IPv6": "ip6"}

FILTER = f"tcp port 80 or tcp port {PORT}"


def ask(ctx: Context, client: Pod, timeout: float = 15) -> Answer:
    return client.get(ctx.service("mirror").url("/clientip"), timeout=timeout)


def syns(recording: Recording, source: str, port: int) -> list[Packet]:
    return recording.select(source=source, destination_port=port, flags="S")


def take_masquerade_away(ctx: Context, mirror: Pod) -> None:
    """Have the pod keep its own address when it is its own backend.

    The first rule of the nat hook that decides about a connection's source is the last one that is asked: kube-proxy's,
    which comes later, does not get to masquerade.
    """
    family, own = NFT[ctx.family], mirror.address
    table = f"{family} {TABLE}"
    rules = f"""
        add table {table}
        add chain {table} postrouting {{ type nat hook postrouting priority srcnat - 10; }}
        add rule {table} postrouting {family} saddr {own} {family} daddr {own} snat to {own}
    """
    ctx.fault(ctx.node(mirror.node), ["nft", rules], undo=["nft", f"add table {table}; delete table {table}"])


def believe_own_source(ctx: Context, mirror: Pod) -> None:
    """Have IPv4 take in packets that come from the network with the pod's own address; IPv6 does not mind anyway."""
    if ctx.family == "IPv4":
        setting = "net.ipv4.conf.eth0.accept_local"
        ctx.fault(mirror, ["sysctl", "-qw", f"{setting}=1"], undo=["sysctl", "-qw", f"{setting}=0"])


@check("With masquerade a pod reaches itself through its Service: it sees its node as the client, and answers the node")
def masqueraded(ctx: Context) -> None:
    mirror, service = ctx.pod("mirror"), ctx.service("mirror")
    with ctx.capture(mirror, expression=FILTER) as (packets,):
        answer = ask(ctx, mirror)
    client = answer.text.rpartition(":")[0].strip("[]")
    ctx.expect(mirror.node, ctx.owner(client), f"the client it sees ({answer.text})")
    ctx.expect(f"{answer.client} > {service.endpoint} TCP [S]", packets.first(flags="S"), "leaves")
    ctx.expect(
        f"{answer.text} > {mirror.endpoint(PORT)} TCP [S]", packets.first(flags="S", source=client), "comes back"
    )
    ctx.expect(
        f"{mirror.endpoint(PORT)} > {answer.text} TCP [SA]", packets.first(flags="SA"), "is answered, to the node"
    )
    ctx.expect(
        f"{service.endpoint} > {answer.client} TCP [SA]",
        packets.first(flags="SA", destination=mirror.address),
        "and comes back translated",
    )


@check("Without it the pod gets a packet from itself, and there is no answer; other pods are served as before")
def own_packet(ctx: Context) -> None:
    mirror, other, service = ctx.pod("mirror"), ctx.pod("other"), ctx.service("mirror")
    take_masquerade_away(ctx, mirror)
    with ctx.capture(mirror, expression=FILTER) as (packets,):
        ctx.expect(NO_ANSWER, ask(ctx, mirror, PATIENCE).text, "to the pod itself")
    leaving, returning = syns(packets, mirror.address, service.port), syns(packets, mirror.address, PORT)
    ctx.expect(service.endpoint, service.endpoint if leaving else "nothing", "leaves for")
    ctx.expect(
        f"{mirror.endpoint(leaving[0].source_port)} > {mirror.endpoint(PORT)} TCP [S]",
        str(returning[0]) if returning else "nothing",
        "comes back",
    )
    ctx.expect([], packets.select(flags="SA"), "answers on eth0")
    ctx.expect("answered", "answered" if ask(ctx, other).ok else "not answered", "to another pod")


@check("If it accepts the packet, its answer bypasses the rules, and comes from an address that it did not dial")
def answers_itself(ctx: Context) -> None:
    mirror = ctx.pod("mirror")
    believe_own_source(ctx, mirror)
    with ctx.capture(mirror, mirror.interface("lo"), expression=FILTER) as (eth0, lo):
        ctx.expect(NO_ANSWER, ask(ctx, mirror, PATIENCE).text, "to the pod itself")
    port = syns(eth0, mirror.address, PORT)[0].source_port
    server, client = mirror.endpoint(PORT), mirror.endpoint(port)
    ctx.expect([], eth0.select(flags="SA"), "answers on eth0, where they would be translated back")
    ctx.expect(f"{server} > {client} TCP [SA]", lo.first(flags="SA"), "the answer, on lo")
    ctx.expect(f"{client} > {server} TCP [R]", lo.first(flags="R"), "what its own client says to that")


@check("With masquerade again, it reaches itself again")
def repaired(ctx: Context) -> None:
    mirror = ctx.pod("mirror")
    ctx.repair()
    with ctx.capture(mirror, mirror.interface("lo"), expression=FILTER) as (eth0, lo):
        answer = ask(ctx, mirror)
    ctx.expect(
        mirror.node, ctx.owner(answer.text.rpartition(":")[0].strip("[]")), f"the client it sees ({answer.text})"
    )
    # On a slow machine they are sent again meanwhile, and look the same.
    ctx.expect(
        2,
        len({str(p) for p in eth0.select(flags="SA")}),
        "SYN-ACKs on eth0, one to the node and one from the Service's address",
    )
    ctx.expect([], lo.packets, "packets on lo")
