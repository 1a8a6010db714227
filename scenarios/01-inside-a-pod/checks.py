from netlab.scenario import REFUSED, Context, Pod, check, host_port

HTTP, PRIVATE = 8080, 8081


def localhost(ctx: Context) -> str:
    return "127.0.0.1" if ctx.family == "IPv4" else "::1"


def connect(pod: Pod, container: str, address: str, port: int, protocol: str) -> str:
    target = host_port(address, port)
    said = pod.run(["/agnhost", "connect", "--timeout=5s", f"--protocol={protocol}", target], container)
    return said or "connected"


@check("A container reaches the other one at localhost")
def reach_at_localhost(ctx: Context) -> None:
    pair = ctx.pod("pair")
    ctx.expect("connected", connect(pair, "sidecar", localhost(ctx), HTTP, "tcp"), "TCP")
    ctx.expect("connected", connect(pair, "sidecar", localhost(ctx), PRIVATE, "udp"), "UDP")


@check("Their traffic stays on the pod's loopback: none of it appears on eth0")
def stay_on_loopback(ctx: Context) -> None:
    pair = ctx.pod("pair")
    with ctx.capture(pair.interface("lo"), pair, expression=f"udp port {PRIVATE}") as (inside, outside):
        connect(pair, "sidecar", localhost(ctx), PRIVATE, "udp")
    ctx.expect(2, len(inside.packets), "packets on lo, one there and one back")
    ctx.expect({localhost(ctx)}, {p.source for p in inside.packets}, "their source")
    ctx.expect(0, len(outside.packets), "packets on eth0")


@check("Both containers are in one network namespace: they share one address and one set of ports")
def one_set_of_ports(ctx: Context) -> None:
    pair = ctx.pod("pair")
    namespaces = [pair.run(["readlink", "/proc/self/ns/net"], container) for container in ("server", "sidecar")]
    ctx.expect(namespaces[0], namespaces[1], "network namespace")
    said = pair.run(["/agnhost", "netexec", f"--http-port={HTTP}", "--udp-port=-1"], "sidecar")
    ctx.expect(
        "Address already in use", said, "the sidecar listens on the server's port", holds="already in use" in said
    )


@check("Another pod cannot reach what listens on localhost, neither at the pod's address nor at its own localhost")
def unreachable_from_another_pod(ctx: Context) -> None:
    pair, stranger = ctx.pod("pair"), ctx.pod("stranger")
    ctx.expect("pair", stranger.get(pair.url(HTTP, "/hostname")).text, "the port open to all")
    ctx.expect(REFUSED, stranger.udp(pair.address, PRIVATE, "hostname").text, "the private port, at the pod's address")
    ctx.expect(REFUSED, stranger.udp(localhost(ctx), PRIVATE, "hostname").text, "the private port, at localhost")


@check("They share the hostname, but not processes or files")
def processes_and_files_of_their_own(ctx: Context) -> None:
    pair = ctx.pod("pair")
    names = [pair.run(["cat", "/proc/sys/kernel/hostname"], container) for container in ("server", "sidecar")]
    ctx.expect(["pair", "pair"], names, "hostname")
    for container in ("server", "sidecar"):
        processes = [entry for entry in pair.run(["ls", "/proc"], container).split() if entry.isdecimal()]
        ctx.expect(2, len(processes), f"processes seen by the {container}, its own first one and this `ls`")
    pair.run(["touch", "/tmp/of-the-server"], "server")
    ctx.expect("", pair.run(["ls", "/tmp"], "sidecar"), "the server's file, looked for in the sidecar")
