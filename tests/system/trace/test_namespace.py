"""What a network namespace tells of itself, for each kind of thing that decides a packet's way."""

from __future__ import annotations

import socket
import subprocess

from netlab.net.namespaces import write_sysctls
from netlab.trace.namespace import observe
from netlab.trace.state import (
    Address,
    Forwarding,
    Listener,
    Namespace,
    Neighbour,
    NextHop,
    Route,
    Rule,
    Vxlan,
)
from tests.sandbox import isolated

MAC = "02:00:00:00:00:99"


def made(*commands: str) -> Namespace:
    """The present namespace after these commands."""
    for command in ("ip link set lo up", *commands):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    return observe("node-1", "node-1").namespace


PAIR = ("ip link add v0 type veth peer name v1", "ip link set v0 up mtu 1400", "ip link set v1 up")


@isolated
def test_links() -> None:
    found = made(
        *PAIR,
        "ip link add b0 type bridge",
        "ip link set b0 up",
        "ip link set v0 master b0",
        "bridge link set dev v0 hairpin on isolated on state 4",
        "ip link set v1 down",
        "ip link add x0 type vxlan id 7 local 192.0.2.9 dev v1 dstport 4789",
    )
    links = {link.name: link for link in found.links}
    assert (links["lo"].kind, links["b0"].kind, links["v0"].kind) == ("loopback", "bridge", "veth")
    assert (links["v0"].mtu, links["v0"].master, links["v0"].hairpin, links["v0"].isolated) == (1400, "b0", True, True)
    assert (links["v0"].up, links["v0"].carrier, links["v1"].up) == (True, False, False)
    assert links["v0"].blocked
    assert links["x0"].vxlan == Vxlan(7, "192.0.2.9", 4789, "v1")


@isolated
def test_the_other_end_of_a_pair() -> None:
    made(*PAIR)
    seen = observe("node-1", "node-1")
    number, index = seen.peers["v0"]
    assert (number, seen.indexes[index]) == (None, "v1")


@isolated
def test_addresses_and_routes() -> None:
    found = made(
        *PAIR,
        "ip address add 192.0.2.1/24 dev v0",
        "ip -6 address add 2001:db8::1/64 dev v0 nodad",
        "ip route add 10.1.0.0/16 via 192.0.2.2 metric 5 mtu 1300",
        "ip route add 10.2.0.0/16 nexthop via 192.0.2.2 dev v0 nexthop via 192.0.2.3 dev v0",
        "ip route add blackhole 10.3.0.0/16",
        "ip route add unreachable 10.4.0.0/16 table 1000",
        "ip -6 route add 2001:db8:1::/64 via 2001:db8::2",
    )
    assert Address("192.0.2.1", 24, "v0") in found.addresses
    assert Address("2001:db8::1", 64, "v0") in found.addresses
    assert Address("127.0.0.1", 8, "lo", "host") in found.addresses
    via = NextHop("192.0.2.2", "v0")
    for route in (
        Route("10.1.0.0/16", hops=(via,), metric=5, mtu=1300),
        Route("10.2.0.0/16", hops=(via, NextHop("192.0.2.3", "v0"))),
        Route("10.3.0.0/16", "blackhole"),
        Route("10.4.0.0/16", "unreachable", table=1000),
        Route("2001:db8:1::/64", hops=(NextHop("2001:db8::2", "v0"),), metric=1024),
        Route("192.0.2.1/32", "local", (NextHop("", "v0"),), table=255, source="192.0.2.1"),
    ):
        assert route in found.routes


@isolated
def test_rules() -> None:
    found = made(
        "ip rule add from 10.0.0.0/8 to 192.0.2.0/24 iif lo fwmark 0x10/0xf0 table 1000 priority 50",
        "ip -6 rule add from 2001:db8::/32 prohibit priority 60",
    )
    ours = [rule for rule in found.rules if rule.priority in (50, 60)]
    assert ours == [
        Rule(50, 1000, "lookup", "10.0.0.0/8", "192.0.2.0/24", "lo", "", 0x10, 0xF0, 4),
        Rule(60, 0, "prohibit", "2001:db8::/32", version=6),
    ]


@isolated
def test_neighbours_and_forwarding() -> None:
    found = made(
        *PAIR,
        "ip link add b0 type bridge",
        "ip link set v0 master b0",
        "ip link add x0 type vxlan id 7 local 192.0.2.9 dstport 4789",
        f"ip neigh add 192.0.2.2 lladdr {MAC} dev v1 nud permanent",
        f"ip neigh add 2001:db8::2 lladdr {MAC} dev v1 nud stale",
        f"bridge fdb add {MAC} dev v0 master static",
        f"bridge fdb add {MAC} dev x0 dst 192.0.2.3 self",
    )
    assert set(found.neighbours) >= {
        Neighbour("192.0.2.2", "v1", MAC, "permanent"),
        Neighbour("2001:db8::2", "v1", MAC, "stale"),
    }
    assert [entry for entry in found.forwarding if entry.mac == MAC] == [
        Forwarding(MAC, "v0"),
        Forwarding(MAC, "x0", "192.0.2.3"),
    ]
    own = next(link.mac for link in found.links if link.name == "v0")
    assert Forwarding(own, "v0", local=True) in found.forwarding


@isolated
def test_settings() -> None:
    write_sysctls({"net/ipv4/ip_forward": "1", "net/ipv4/conf/lo/rp_filter": "2", "net/ipv6/conf/all/forwarding": "0"})
    sysctls = made().sysctls
    assert sysctls["net/ipv4/ip_forward"] == sysctls["net/ipv4/conf/all/forwarding"] == 1
    assert sysctls["net/ipv4/conf/lo/rp_filter"] == 2
    assert sysctls["net/ipv6/conf/all/forwarding"] == 0


@isolated
def test_listeners() -> None:
    made()
    with (
        socket.create_server(("127.0.0.1", 8001)),
        socket.create_server(("::", 8002), family=socket.AF_INET6),
        socket.create_server(("::", 8003), family=socket.AF_INET6, dualstack_ipv6=True),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected,
    ):
        datagrams.bind(("127.0.0.1", 8004))
        connected.connect(("127.0.0.1", 8004))
        assert set(observe("x", "x").namespace.listeners) == {
            Listener("tcp", "127.0.0.1", 8001),
            Listener("tcp", "::", 8002),
            Listener("tcp", "::", 8003),
            Listener("tcp", "0.0.0.0", 8003),
            Listener("udp", "127.0.0.1", 8004),
        }
