from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from netlab.scenario import Context, Packet, Pod, Recording, check

DOMAIN = "cluster.local"
API = "kubernetes"
"""The Service of the API, in the namespace default: every cluster has it."""

FULL = f"{API}.default.svc.{DOMAIN}"
TYPES = {1: "A", 28: "AAAA"}
CODES = {0: "NOERROR", 3: "NXDOMAIN"}


class Query(NamedTuple):
    """A question or an answer (RFC 1035, section 4.1): the name and type, and of an answer the response code."""

    name: str
    type: str
    code: str


def decoded(packet: Packet) -> Query:
    message, at, labels = packet.payload, 12, []
    while size := message[at]:
        labels.append(message[at + 1 : at + 1 + size].decode())
        at += 1 + size
    kind = int.from_bytes(message[at + 1 : at + 3], "big")
    code = CODES.get(message[3] & 0xF, "?") if message[2] & 0x80 else ""
    return Query(".".join(labels), TYPES.get(kind, str(kind)), code)


def asked(recording: Recording) -> list[Query]:
    return [decoded(packet) for packet in recording.packets if packet.destination_port == 53]


def told(recording: Recording) -> list[Query]:
    return [decoded(packet) for packet in recording.packets if packet.source_port == 53]


def names(queries: list[Query]) -> list[str]:
    """The names in the order in which they were asked for, each once."""
    return list(dict.fromkeys(query.name for query in queries))


def searches(ctx: Context, pod: Pod) -> list[str]:
    """The search domains of a pod. A lab without DNS gives it none but its own."""
    lines = pod.run(["cat", "/etc/resolv.conf"]).splitlines()
    if not any(line.startswith("nameserver") for line in lines):
        ctx.skip("the lab has no cluster DNS (`netlab up --dns`)")
    return next(line.split()[1:] for line in lines if line.startswith("search"))


def dial(ctx: Context, pod: Pod, name: str) -> str:
    """What a program gets that connects to a name: nothing, if it succeeds."""
    return pod.run(["/agnhost", "connect", "--timeout=10s", f"{name}:443"])


def ready(ctx: Context, pod: Pod) -> None:
    """Wait until DNS answers: its pod is ready a moment after the lab is up."""
    ctx.eventually(lambda: dial(ctx, pod, f"{FULL}."), lambda said: not said)


def recorded(ctx: Context, pod: Pod, *dialled: str) -> Recording:
    """The questions of DNS, and their answers, while a program in the pod connects to names."""
    ready(ctx, pod)
    with ctx.capture(pod, expression="udp port 53") as (packets,):
        for name in dialled:
            ctx.expect("", dial(ctx, pod, name), f"connecting to {name}")
    return packets


@check("A pod has five search domains, three of the cluster's and two of its own, and ndots:5")
def five_domains(ctx: Context) -> None:
    client = ctx.pod("client")
    domains = searches(ctx, client)
    wanted = [
        f"{ctx.namespace}.svc.{DOMAIN}",
        f"svc.{DOMAIN}",
        DOMAIN,
        f"kube-system.svc.{DOMAIN}",
        f"default.svc.{DOMAIN}",
    ]
    ctx.expect(wanted, domains, "search")
    options = [line for line in client.run(["cat", "/etc/resolv.conf"]).splitlines() if line.startswith("options")]
    ctx.expect(["options ndots:5"], options, "and")


@check("A name of the fifth domain takes ten queries, A and AAAA in each: eight are denied")
def ten_queries(ctx: Context) -> None:
    client = ctx.pod("client")
    domains = searches(ctx, client)
    packets = recorded(ctx, client, API)
    ctx.expect([f"{API}.{domain}" for domain in domains], names(asked(packets)), "asked for")
    ctx.expect(10, len(set(asked(packets))), "queries")
    ctx.expect(8, len([query for query in set(told(packets)) if query.code == "NXDOMAIN"]), "of which denied")


@check("A dot at the end makes it the whole name: two queries")
def a_dot(ctx: Context) -> None:
    client = ctx.pod("client")
    searches(ctx, client)
    packets = recorded(ctx, client, f"{FULL}.")
    ctx.expect([FULL], names(asked(packets)), "asked for")
    ctx.expect(2, len(set(asked(packets))), "queries")


@check("The same name without the dot has four dots, fewer than ndots: all five domains come first")
def without_the_dot(ctx: Context) -> None:
    client = ctx.pod("client")
    domains = searches(ctx, client)
    packets = recorded(ctx, client, FULL)
    ctx.expect([*(f"{FULL}.{domain}" for domain in domains), FULL], names(asked(packets)), "asked for")
    ctx.expect(12, len(set(asked(packets))), "queries")


@check("With ndots:1 the whole name comes first, and a short one is searched for as before")
def ndots_of_one(ctx: Context) -> None:
    brief = ctx.pod("brief")
    domains = searches(ctx, brief)
    packets = recorded(ctx, brief, FULL, API)
    ctx.expect([FULL, *(f"{API}.{domain}" for domain in domains[:-1])], names(asked(packets)), "asked for")


LOSE = (
    "add table inet netlab-demo-dns; "
    "add chain inet netlab-demo-dns input { type filter hook input priority 0; }; "
    "add rule inet netlab-demo-dns input udp sport 53 drop"
)


@contextmanager
def answers_lost(ctx: Context, pod: Pod) -> Iterator[None]:
    """The pod gets no answer by UDP, for the block."""
    with ctx.fault(
        pod, ["nft", LOSE], undo=["nft", "add table inet netlab-demo-dns; delete table inet netlab-demo-dns"]
    ):
        yield


@check("An answer that is lost is no denial: after the timeout no other domain has its turn")
def lost(ctx: Context) -> None:
    impatient = ctx.pod("impatient")
    domains = searches(ctx, impatient)
    ready(ctx, impatient)
    with answers_lost(ctx, impatient), ctx.capture(impatient, expression="udp port 53") as (packets,):
        said = dial(ctx, impatient, "kubernetes.default")
    ctx.expect("DNS: ... failure in name resolution", said, "connecting", holds="in name resolution" in said)
    tried = names(asked(packets))
    ctx.expect(f"kubernetes.default.{domains[0]}", tried[0] if tried else "nothing", "asked for first")
    ctx.expect(
        [], [name for name in tried if name in {f"kubernetes.default.{each}" for each in domains[1:]}], "and then"
    )
    ctx.expect("1 or more", len(told(packets)), "answers that reached its eth0", holds=bool(told(packets)))


@check("By TCP the same question is answered: nothing is wrong with the server")
def by_tcp(ctx: Context) -> None:
    impatient = ctx.pod("impatient")
    searches(ctx, impatient)
    ready(ctx, impatient)
    with answers_lost(ctx, impatient):
        answer = impatient.run(["dig", "+tcp", "+short", FULL, "A" if ctx.family == "IPv4" else "AAAA"])
    ctx.expect("an address", answer, "dig +tcp", holds=bool(answer) and "reached" not in answer)
    ctx.expect("", dial(ctx, impatient, "kubernetes.default"), "and with the answers back, connecting")
