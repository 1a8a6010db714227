"""Connections listed, and told, by a kernel that translates them."""

import select
import socket
import subprocess
import time
from pathlib import Path

import pytest

from netlab.net.conntrack.entries import Entry, entries
from netlab.net.conntrack.events import Event, Events
from netlab.net.conntrack.flows import Conntrack
from tests.sandbox import isolated

SERVICES = {"IPv4": ("10.96.0.10", "127.0.0.1"), "IPv6": ("fd00:10:96::a", "::1")}
AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
TYPE = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
NUMBER = {"TCP": 6, "UDP": 17}

TABLE = """
table inet service {
    chain output {
        type nat hook output priority -100
        ip daddr 10.96.0.10 meta l4proto { tcp, udp } dnat ip to 127.0.0.1:SERVED
        ip6 daddr fd00:10:96::a meta l4proto { tcp, udp } dnat ip6 to [::1]:SERVED
    }
}
"""


def up() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for family in ("-4", "-6"):
        subprocess.run(["ip", family, "route", "add", "default", "dev", "lo"], check=True)


def translate(port: int) -> None:
    subprocess.run(["nft", "-f", "-"], input=TABLE.replace("SERVED", str(port)), text=True, check=True)


def dial(family: str, protocol: str, port: int) -> tuple[socket.socket, Entry]:
    """A connection through the Service, and the entry that it makes."""
    service, server = SERVICES[family]
    client = socket.socket(AF[family], TYPE[protocol])
    client.bind((server, 0))
    client.connect((service, 80))
    client.send(b"hello")
    own, vip = socket.inet_pton(AF[family], server), socket.inet_pton(AF[family], service)
    number = client.getsockname()[1]
    return client, Entry(NUMBER[protocol], (own, number, vip, 80), (own, port, own, number))


def hear(events: Events, kind: str, wanted: Entry) -> Event:
    deadline = time.monotonic() + 5
    while select.select([events], [], [], deadline - time.monotonic())[0]:
        for event in events.read():
            if event.kind == kind and event.entry[:3] == wanted[:3]:
                return event
    pytest.fail(f"no event tells of {wanted}")


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@isolated
def test_a_translated_connection_is_told_and_listed_and_told_again_when_it_goes(family: str, protocol: str) -> None:
    up()
    with socket.socket(AF[family], TYPE[protocol]) as server:
        server.bind((SERVICES[family][1], 0))
        if protocol == "TCP":
            server.listen()
        port = server.getsockname()[1]
        translate(port)
        with Events() as events:
            before = time.time_ns()
            client, wanted = dial(family, protocol, port)
            with client:
                assert before < hear(events, "new", wanted).time < time.time_ns()
                assert [entry[:3] for entry in entries(AF[family])] == [wanted[:3]]
                assert entries() == entries(AF[family])
                if protocol == "UDP":
                    with Conntrack() as conntrack:
                        conntrack.forget(conntrack.udp_flows(AF[family], 80))
                    hear(events, "destroy", wanted)
                    assert entries() == []
            assert events.lost == 0


@isolated
def test_the_identifier_of_a_query_stands_for_both_ports() -> None:
    up()
    translate(1)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as client:
        client.bind(("127.0.0.1", 4321))
        client.connect(("127.0.0.1", 0))
        client.send(b"\x08\0\0\0\0\0\0\1hello")
        client.recv(100)
    own = bytes([127, 0, 0, 1])
    assert entries(socket.AF_INET) == [Entry(1, (own, 4321, own, 4321), (own, 4321, own, 4321))]


@isolated
def test_events_that_found_no_room_are_counted() -> None:
    up()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        translate(server.getsockname()[1])
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        with Events(made) as events:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            clients = [dial("IPv4", "UDP", 0)[0] for _ in range(100)]
            assert events.read()
            assert events.lost
            for client in clients:
                client.close()
