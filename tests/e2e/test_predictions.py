"""Predictions held against real packets: one table of probes, and one of faults, in labs of every kind."""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from netlab.lab.lab import Lab
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.paths import LabPaths
from netlab.net.addresses import address_text
from netlab.trace.model import Hop, Path
from netlab.trace.predict import predict
from netlab.trace.reading import read
from netlab.trace.state import ANY_PORT, Probe
from tests.e2e.conftest import Netlab, eventually
from tests.system.trace.watching import Seen, is_error, watched

_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {labels}}}
spec:
  nodeName: {node}
  containers: [{{name: c, image: agnhost, args: [netexec, --http-port=8080, --udp-port=8080]}}]
---
"""
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {selector}
  ports: [{{name: http, port: 80, targetPort: 8080, nodePort: {port}}},
          {{name: dns, protocol: UDP, port: 53, targetPort: 8080, nodePort: {port}}}]
  {more}
---
"""
_EXTERNAL = "externalIPs: [198.51.100.7, '2001:db8:ffff::7']"
MANIFESTS = (
    _POD.format(name="near", node="node-1", labels="{app: web}")
    + _POD.format(name="far", node="node-2", labels="{app: web, where: far}")
    + _POD.format(name="client", node="node-1", labels="{}")
    + _SERVICE.format(name="web", selector="{app: web}", port=30080, more=_EXTERNAL)
    + _SERVICE.format(name="far", selector="{where: far}", port=30081, more="externalTrafficPolicy: Local")
    + _SERVICE.format(name="sticky", selector="{app: web}", port=30082, more="sessionAffinity: ClientIP")
    + _SERVICE.format(name="empty", selector="{app: nothing}", port=30083, more="")
)

LABS = [("vxlan", "nftables"), ("routed", "iptables"), ("bridge", "nftables")]

_FIRST_PORT = 20000
"""Below those that the kernel chooses from."""
_VXLAN = 4789
_ports = itertools.count(_FIRST_PORT)


class Place:
    """A lab that is up, with its pods ready, and the addresses of what the tables name."""

    def __init__(self, netlab: Netlab, name: str) -> None:
        self.lab = Lab(LabPaths(netlab.home / name))
        self.network = self.lab.spec().network
        self.envoy = NetworkEnvoy(self.lab)
        self.addresses = {f"node-{n + 1}": self.lab.spec().node_addresses(n + 1) for n in range(2)}
        self.addresses["outside"] = self.lab.spec().outside_addresses
        for pod in netlab.json("get", "pods", "--name", name)["items"]:
            self.addresses[pod["metadata"]["name"]] = [ip["ip"] for ip in pod["status"]["podIPs"]]
        for service in netlab.json("get", "services", "--name", name)["items"]:
            self.addresses[f"svc/{service['metadata']['name']}"] = service["spec"]["clusterIPs"]
        self.addresses["external"] = ["198.51.100.7", "2001:db8:ffff::7"]
        # The kernel stamps packets only while some socket wants it, and begins a moment after the first one does.
        self.stamps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stamps.setsockopt(socket.SOL_SOCKET, 35, 1)
        self.addresses["nobody's"] = ["10.96.200.200", "fd00:10:96::fff0"]
        self.addresses["unused"] = [f"{self.addresses['far'][0].rpartition('.')[0]}.250", f"{_subnet6(self)}fa"]

    def owner(self, name: str) -> str:
        return f"default/{name}" if name in ("near", "far", "client") else name

    def namespace(self, name: str) -> Network:
        return next(each for each in self.envoy.listed() if each.owner == self.owner(name))


def _subnet6(place: Place) -> str:
    return place.addresses["far"][1].rpartition(":")[0] + ":"


@pytest.fixture(scope="module", params=LABS, ids="-".join)
def place(request: pytest.FixtureRequest, netlab: Netlab) -> Iterator[Place]:
    network, proxy = request.param
    name = f"{network}-{proxy}"
    netlab.ok("up", "--nodes", "2", "--name", name, "--network", network, "--proxy", proxy, "--dual-stack", "--no-dns")
    netlab.ok("apply", "--name", name, "-f", "-", stdin=MANIFESTS)
    eventually(lambda: _ready(netlab.json("get", "pods", "--name", name)["items"]))
    eventually(lambda: netlab.run("proxy", "diff", "--name", name).returncode == 0)
    made = Place(netlab, name)
    yield made
    made.envoy.close()
    made.stamps.close()
    netlab.ok("down", "--name", name)


def _ready(pods: list[Any]) -> bool:
    return len(pods) == 3 and all(
        any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])) for pod in pods
    )


class Case(NamedTuple):
    """A probe, and what is to become of it."""

    source: str
    destination: str
    port: int
    outcome: str
    protocol: str = "tcp"
    size: int = 0
    fragment: bool = True
    ttl: int = 64


CASES = [
    Case("client", "near", 8080, "delivered"),
    Case("client", "far", 8080, "delivered"),
    Case("client", "far", 8080, "delivered", "udp"),
    Case("client", "far", 0, "delivered", "icmp"),
    Case("client", "near", 0, "delivered", "icmp"),
    Case("client", "svc/web", 80, "delivered"),
    Case("client", "svc/web", 53, "delivered", "udp"),
    Case("near", "svc/web", 80, "delivered"),
    Case("client", "svc/far", 80, "delivered"),
    Case("client", "svc/empty", 80, "rejected"),
    Case("client", "svc/empty", 53, "rejected", "udp"),
    Case("client", "svc/web", 81, "rejected"),
    Case("client", "svc/web", 0, "rejected", "icmp"),
    Case("client", "nobody's", 80, "dropped"),
    Case("client", "node-1", 30080, "delivered"),
    Case("client", "node-2", 30081, "delivered"),
    Case("client", "external", 80, "delivered"),
    Case("client", "outside", 9, "refused"),
    Case("client", "outside", 0, "delivered", "icmp"),
    Case("client", "node-2", 0, "delivered", "icmp"),
    Case("client", "node-1", 9, "refused", "udp"),
    Case("client", "far", 9, "refused"),
    Case("client", "far", 9, "refused", "udp"),
    Case("client", "unused", 80, "dropped"),
    Case("node-1", "near", 8080, "delivered"),
    Case("node-1", "far", 8080, "delivered"),
    Case("node-1", "far", 0, "delivered", "icmp"),
    Case("node-1", "svc/web", 80, "delivered"),
    Case("node-1", "svc/empty", 80, "rejected"),
    Case("node-1", "node-1", 30080, "delivered"),
    Case("node-1", "node-1", 9, "refused"),
    Case("node-1", "node-2", 30081, "delivered"),
    Case("outside", "node-1", 30080, "delivered"),
    Case("outside", "node-1", 30080, "delivered", "udp"),
    Case("outside", "node-1", 30081, "dropped"),
    Case("outside", "node-2", 30081, "delivered"),
    Case("outside", "node-1", 30083, "rejected"),
    Case("outside", "external", 80, "delivered"),
    Case("outside", "node-1", 30082, "delivered"),
    Case("outside", "node-1", 30082, "delivered"),
    Case("client", "svc/sticky", 80, "delivered"),
    Case("client", "svc/sticky", 80, "delivered"),
    Case("client", "outside", 0, "rejected", "icmp", ttl=1),
    Case("client", "far", 8080, "delivered", "udp", size=1400, fragment=False),
]


def _named(case: Case) -> str:
    more = "".join(f" {name} {getattr(case, name)}" for name in ("size", "ttl") if getattr(case, name) not in (0, 64))
    return f"{case.source} to {case.destination}:{case.port} {case.protocol}{more}"


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("case", CASES, ids=_named)
def test_a_packet_goes_where_it_was_said_to(place: Place, case: Case, family: int) -> None:
    path = _probed(place, case, family)
    ttl_is_taken = place.network != "bridge" or case.ttl == 64 or case.destination == "outside"
    assert path.verdict.outcome == (case.outcome if ttl_is_taken else "delivered"), path.verdict


def _probe(place: Place, case: Case, family: int, port: int) -> Probe:
    return Probe(
        place.owner(case.source),
        place.addresses[case.destination][family],
        case.protocol,  # type: ignore[arg-type]
        case.port,
        port,
        size=case.size,
        fragment=case.fragment,
        ttl=case.ttl,
    )


def _probed(place: Place, case: Case, family: int, port: int = 0) -> Path:
    """The prediction that came true; fails when none did."""
    probe = _probe(place, case, family, port or next(_ports))
    paths = predict(read(place.lab, probe, place.envoy), probe)
    assert len(paths) == len(set(map(repr, paths)))
    source = place.namespace(case.source)
    patience = _ANSWERED if any(path.verdict.outcome == "delivered" for path in paths) else _SILENT
    answered, seen = watched(place.envoy, lambda: place.envoy.run(source, exchange, probe, patience))
    own = _own_ports(seen, probe)
    there, back = _ways([one for one in seen if not _of_another(one, probe, own)])
    for path in paths:
        if _same(path.hops, there) and _same(path.reply, back):
            assert answered == (path.verdict.outcome == "delivered"), path.verdict
            return path
    pytest.fail("\n".join(["seen:", *map(str, seen), "", *itertools.chain(*map(_lines, paths))]))


def _ways(seen: Sequence[Seen]) -> tuple[list[Seen], list[Seen]]:
    """The sightings of the probe, and those of the first answer to it."""
    sent = [one for one in seen if not is_error(one.headers)]
    first = sent[0].headers if sent else None
    there = [one for one in sent if _alike(one, sent[0])]
    replies = [one for one in seen if is_error(one.headers) or _answers(one, first)]
    return there, [one for one in replies if _alike(one, replies[0])]


def _own_ports(seen: Sequence[Seen], probe: Probe) -> set[int]:
    """The ports of the probe's first packet wherever it was seen: a masquerade may choose one of an earlier probe's."""
    first = next((one for one in seen if one.headers.sport == probe.source_port), None)
    alike = [one for one in seen if first is not None and _alike(one, first)]
    return {port for one in alike for port in (one.headers.sport, one.headers.dport)}


def _of_another(one: Seen, probe: Probe, own: Collection[int] = ()) -> bool:
    """Whether it is no first fragment, or belongs to another packet.

    Of an address that nobody answers for, an earlier probe's sender is told after three seconds, and answers are sent
    again after one; of a tunnel that ends nowhere, the sender's node is told.
    """
    headers = one.headers.quoted or one.headers
    earlier = range(_FIRST_PORT, probe.source_port)
    ports = headers.flow[1], headers.flow[3]
    return (
        one.headers.fragment > 0
        or any(port in earlier and port not in own for port in ports)
        or headers.dport == _VXLAN
    )


def _alike(one: Seen, other: Seen) -> bool:
    a, b = one.headers, other.headers
    return (a.protocol, a.flags, a.seq, a.icmp_type, a.digest, bool(a.quoted)) == (
        (b.protocol, b.flags, b.seq, b.icmp_type, b.digest, bool(b.quoted))
    )


def _answers(one: Seen, first: Any) -> bool:
    headers = one.headers
    if first.protocol == socket.IPPROTO_TCP:
        return headers.flag_letters in ("SA", "RA")
    return headers.protocol == first.protocol and (headers.icmp_type, headers.digest) != (first.icmp_type, first.digest)


def _same(hops: Sequence[Hop], seen: Sequence[Seen]) -> bool:
    return len(hops) == len(seen) and all(map(_matches, hops, seen))


def _matches(hop: Hop, one: Seen) -> bool:
    source, sport, destination, dport = one.headers.flow
    carrier = str(one.headers.carrier) if one.headers.carrier else ""
    return (
        (hop.owner, hop.interface, hop.direction, hop.ttl, hop.encapsulation)
        == (one.owner, one.interface, one.direction, one.headers.ttl, carrier)
        and (hop.src, hop.dst) == (address_text(source), address_text(destination))
        and hop.sport in (sport, ANY_PORT)
        and hop.dport in (dport, ANY_PORT)
    )


def _lines(path: Path) -> Iterator[str]:
    yield f"predicted: {path.verdict}"
    for sign, hops in (("", path.hops), ("< ", path.reply)):
        for hop in hops:
            ends = f"{hop.src}.{hop.sport} > {hop.dst}.{hop.dport} ttl {hop.ttl} {hop.encapsulation}"
            yield f"{sign}{hop.owner} {hop.interface} {hop.direction} {ends} {hop.by}"


_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE_MTU = 10, 23, 3
_ANSWERED, _SILENT = 10.0, 0.4
"""Seconds to wait for an answer that must come, and for one that must not: less than until TCP sends again."""


def exchange(probe: Probe, patience: float) -> bool:
    """Send the probe in the present network namespace; whether the answer to it came."""
    family = socket.AF_INET6 if probe.version == 6 else socket.AF_INET
    if probe.protocol == "icmp":
        return _echo(family, probe, patience)
    kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as made:
        made.settimeout(patience)
        made.bind(("", probe.source_port))
        _set_up(made, probe)
        try:
            made.connect((probe.destination, probe.port))
            if probe.protocol == "udp":
                header = 8 + (40 if probe.version == 6 else 20)
                made.send(b"hostname".ljust(probe.size - header))
                made.recv(2048)
            else:
                # A reset, so that nothing of it is heard of later.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        except OSError:
            return False
        return True


def _echo(family: int, probe: Probe, patience: float) -> bool:
    number = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW, number) as made:
        made.settimeout(patience)
        _set_up(made, probe)
        message = struct.pack("!BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, probe.source_port, 1)
        if family == socket.AF_INET:
            total = sum(struct.unpack("!4H", message))
            total = (total >> 16) + (total & 0xFFFF)
            message = message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
        try:
            made.sendto(message, (probe.destination, 0))
            while True:
                data = made.recv(2048)
                reply = data[20:] if family == socket.AF_INET else data
                if reply[0] in (0, 129) and int.from_bytes(reply[4:6], "big") == probe.source_port:
                    return True
        except OSError:
            return False


def _set_up(made: socket.socket, probe: Probe) -> None:
    if probe.version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, probe.ttl)
        if not probe.fragment:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE_MTU)
        return
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, probe.ttl)
    if not probe.fragment:
        made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE_MTU)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_flow_that_is_known_is_foretold_to_its_endpoint(place: Place, family: int) -> None:
    case, port = Case("client", "svc/web", 53, "delivered", "udp"), next(_ports)
    first = _probed(place, case, family, port)
    probe = _probe(place, case, family, port)
    (known,) = {path.hops[-1].owner for path in predict(read(place.lab, probe, place.envoy), probe)}
    assert known == first.hops[-1].owner
    assert _probed(place, case, family, port).hops[-1].owner == known


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_client_that_is_remembered_is_foretold_to_its_endpoint(place: Place, family: int) -> None:
    case = Case("client", "svc/sticky", 53, "delivered", "udp")
    first = _probed(place, case, family)
    probe = _probe(place, case, family, next(_ports))
    (known,) = {path.hops[-1].owner for path in predict(read(place.lab, probe, place.envoy), probe)}
    assert known == first.hops[-1].owner


class Fault(NamedTuple):
    """A fault, made and undone by commands of its machine (or pod), and what then becomes of a probe, and why.

    `networks` are those in which it makes sense; `{...}` in a command are the names of `Names`.
    """

    name: str
    case: Case
    make: tuple[tuple[str, str], ...]
    undo: tuple[tuple[str, str], ...]
    outcome: str
    why: str
    networks: tuple[str, ...] = ("vxlan", "routed", "bridge")


_FAR = Case("client", "far", 8080, "")
_WEB = Case("near", "svc/far", 80, "")
_BIG = Case("client", "far", 8080, "", "udp", size=1400, fragment=False)

FAULTS = [
    Fault(
        "no route",
        _FAR,
        (("node-1", "ip route del {far_subnet} via {far_gateway} dev {far_link}"),),
        (("node-1", "ip route add {far_subnet} via {far_gateway} dev {far_link} proto static {onlink}"),),
        "dropped",
        "is not its own, and net.ipv4.ip_forward is off",
        ("vxlan", "routed"),
    ),
    *(
        Fault(
            f"{kind} route",
            _FAR,
            (("node-1", f"ip route add {kind} {{far}}/32"),),
            (("node-1", f"ip route del {kind} {{far}}/32"),),
            outcome,
            f"route {kind}",
            ("vxlan", "routed"),
        )
        for kind, outcome in (("blackhole", "dropped"), ("unreachable", "rejected"), ("prohibit", "rejected"))
    ),
    Fault(
        "blackhole route at the source",
        _FAR,
        (("client", "ip route add blackhole {far}/32"),),
        (("client", "ip route del blackhole {far}/32"),),
        "dropped",
        "route blackhole",
    ),
    Fault(
        "no FDB entry",
        _FAR,
        (("node-1", "bridge fdb del {far_vtep} dev vxlan0 dst 192.0.2.2 self"),),
        (("node-1", "bridge fdb add {far_vtep} dev vxlan0 dst 192.0.2.2 self permanent"),),
        "dropped",
        "no FDB entry",
        ("vxlan",),
    ),
    Fault(
        "wrong FDB entry",
        _FAR,
        (("node-1", "bridge fdb replace {far_vtep} dev vxlan0 dst 192.0.2.253 self permanent"),),
        (("node-1", "bridge fdb replace {far_vtep} dev vxlan0 dst 192.0.2.2 self permanent"),),
        "dropped",
        "no VXLAN device",
        ("vxlan",),
    ),
    Fault(
        "no neighbour of the tunnel",
        _FAR,
        (("node-1", "ip neigh del {far_gateway} dev vxlan0"),),
        (("node-1", "ip neigh replace {far_gateway} lladdr {far_vtep} dev vxlan0 nud permanent"),),
        "dropped",
        "no neighbour entry",
        ("vxlan",),
    ),
    Fault(
        "rp_filter",
        _FAR,
        (
            ("node-2", "ip route add {client}/32 via 192.0.2.253 dev eth0"),
            ("node-2", "sysctl -q net.ipv4.conf.vxlan0.rp_filter=1"),
        ),
        (
            ("node-2", "ip route del {client}/32 via 192.0.2.253 dev eth0"),
            ("node-2", "sysctl -q net.ipv4.conf.vxlan0.rp_filter=0"),
        ),
        "dropped",
        "rp_filter 1 of vxlan0",
        ("vxlan",),
    ),
    Fault(
        "rp_filter at the gateway, which is to be asked for its MAC address",
        _FAR,
        (
            ("node-1", "ip route add {client}/32 via 192.0.2.253 dev eth0"),
            ("node-1", "sysctl -q net.ipv4.conf.cni0.rp_filter=1"),
            ("client", "ip neigh flush dev eth0"),
        ),
        (
            ("node-1", "ip route del {client}/32 via 192.0.2.253 dev eth0"),
            ("node-1", "sysctl -q net.ipv4.conf.cni0.rp_filter=0"),
        ),
        "dropped",
        "does not answer: rp_filter 1 of cni0",
        ("vxlan", "routed"),
    ),
    Fault(
        "the answer goes another way",
        _FAR,
        (("node-2", "ip route add {client}/32 via 192.0.2.253 dev eth0"),),
        (("node-2", "ip route del {client}/32 via 192.0.2.253 dev eth0"),),
        "dropped",
        "the answer: 10.244.",
        ("vxlan", "routed"),
    ),
    Fault(
        "forwarding is off",
        _FAR,
        (("node-2", "sysctl -q net.ipv4.ip_forward=0"),),
        (("node-2", "sysctl -q net.ipv4.ip_forward=1"),),
        "dropped",
        "net.ipv4.ip_forward is off",
        ("vxlan", "routed"),
    ),
    Fault(
        "the pod's port is down",
        _FAR,
        (("node-2", "ip link set {far_port} down"),),
        (("node-2", "ip link set {far_port} up"),),
        "dropped",
        "",
    ),
    Fault(
        "the pod's port is in no bridge",
        _FAR,
        (("node-2", "ip link set {far_port} nomaster"),),
        (("node-2", "ip link set {far_port} master cni0"), ("node-2", "bridge link set dev {far_port} hairpin on")),
        "dropped",
        "",
    ),
    Fault(
        "no hairpin",
        Case("far", "svc/far", 80, ""),
        (("node-2", "bridge link set dev {far_port} hairpin off"),),
        (("node-2", "bridge link set dev {far_port} hairpin on"),),
        "dropped",
        "not in hairpin mode",
    ),
    Fault(
        "the underlay's MTU is less than the nodes believe",
        _BIG,
        (("fabric", "ip link set node-2 mtu 1300"),),
        (("fabric", "ip link set node-2 mtu 1500"),),
        "dropped",
        "silently",
        ("routed",),
    ),
    Fault(
        "a bridge on the way fragments what carries it",
        _BIG,
        (("fabric", "ip link set node-2 mtu 1300"),),
        (("fabric", "ip link set node-2 mtu 1500"),),
        "delivered",
        "",
        ("vxlan",),
    ),
    Fault(
        "the other node's MTU is less",
        _BIG,
        (("node-2", "ip link set eth0 mtu 1300"),),
        (("node-2", "ip link set eth0 mtu 1500"), ("node-2", "ip link set vxlan0 mtu 1450")),
        "dropped",
        "silently",
        ("vxlan",),
    ),
    Fault(
        "the route's MTU is less",
        _BIG,
        (("node-1", "ip route change {far_subnet} via {far_gateway} dev {far_link} proto static {onlink} mtu 1200"),),
        (("node-1", "ip route change {far_subnet} via {far_gateway} dev {far_link} proto static {onlink}"),),
        "rejected",
        "exceed the MTU 1200",
        ("vxlan", "routed"),
    ),
    Fault(
        "the pod's own MTU is less",
        _BIG,
        (("client", "ip link set eth0 mtu 1300"),),
        (("client", "ip link set eth0 mtu {mtu}"),),
        "dropped",
        "EMSGSIZE",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_where_and_why_a_packet_dies(place: Place, fault: Fault) -> None:
    if place.network not in fault.networks:
        pytest.skip(f"no such fault in the {place.network} network")
    names = _names(place)
    try:
        for where, command in fault.make:
            _run(place, where, command.format_map(names))
        path = _probed(place, fault.case, 0)
    finally:
        for where, command in fault.undo:
            _run(place, where, command.format_map(names))
    assert path.verdict.outcome == fault.outcome, path.verdict
    assert fault.why in path.verdict.reason


def _names(place: Place) -> dict[str, str]:
    state = read(place.lab, envoy=place.envoy)
    node, far = state.namespaces["node-2"], place.addresses["far"][0]
    subnet = f"{far.rpartition('.')[0]}.0"
    vxlan = place.network == "vxlan"
    return {
        "far": far,
        "client": place.addresses["client"][0],
        "far_subnet": f"{subnet}/24",
        "far_gateway": subnet if vxlan else "192.0.2.2",
        "far_link": "vxlan0" if vxlan else "eth0",
        "onlink": "onlink" if vxlan else "",
        "far_port": next(link.name for link in node.links if link.peer and link.peer[0] == "default/far"),
        "far_vtep": next((link.mac for link in node.links if link.kind == "vxlan"), ""),
        "mtu": str(place.lab.spec().pod_mtu),
    }


def _run(place: Place, where: str, command: str) -> None:
    done = place.envoy.run(
        place.namespace(where), subprocess.run, command.split(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
