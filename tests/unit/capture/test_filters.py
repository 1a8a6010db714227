"""Filters: compiled by tcpdump, applied by the kernel, here to datagrams of a pair of Unix sockets."""

import shutil
import socket
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

from netlab.capture.filters import attach, compile_filter, in_tunnel_too, parse
from netlab.errors import UnsupportedError, UsageError
from netlab.net.bpf import Instruction

needs_tcpdump = pytest.mark.skipif(
    shutil.which("tcpdump", path="/usr/bin:/usr/sbin:/sbin") is None, reason="tcpdump is not installed"
)

V4, V6 = {"src": "10.244.1.2", "dst": "10.244.2.3"}, {"src": "fd00:10:244:1::2", "dst": "fd00:10:244:2::3"}
NODES_4, NODES_6 = {"src": "192.0.2.1", "dst": "192.0.2.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
HTTP = TCP(sport=20000, dport=80, flags="S")
DNS = UDP(sport=20000, dport=53)


def in_vxlan(outer: Any, inner: Any, port: int = 4789) -> Any:
    return outer / UDP(sport=54064, dport=port) / VXLAN(vni=1, flags="Instance") / Ether() / inner


def kept(expression: str, packet: Any, snaplen: int = 65_536) -> int:
    """The bytes of a frame that the kernel keeps, 0 if the filter does not take it."""
    frame = bytes(Ether() / packet)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        attach(theirs, compile_filter(expression), snaplen)
        ours.send(frame)
        theirs.setblocking(False)
        try:
            return len(theirs.recv(100_000))
        except BlockingIOError:
            return 0


@needs_tcpdump
@pytest.mark.parametrize(
    ("expression", "packet", "taken"),
    [
        ("tcp port 80", IP(**V4) / HTTP, True),
        ("tcp port 80", IPv6(**V6) / HTTP, True),
        ("tcp port 80", IP(**V4) / DNS, False),
        ("tcp port 80", ARP(), False),
        ("udp port 4789", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), True),
        # What is carried, in each family within each.
        ("tcp port 80", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), True),
        ("tcp port 80", in_vxlan(IP(**NODES_4), IPv6(**V6) / HTTP), True),
        ("tcp port 80", in_vxlan(IPv6(**NODES_6), IP(**V4) / HTTP), True),
        ("tcp port 80", in_vxlan(IPv6(**NODES_6), IPv6(**V6) / HTTP), True),
        ("tcp port 80", in_vxlan(IP(**NODES_4), IP(**V4) / DNS), False),
        ("tcp port 80", in_vxlan(IPv6(**NODES_6), IP(**V4) / DNS), False),
        ("arp", in_vxlan(IP(**NODES_4), ARP()), True),
        # Loads at an index (after IP options) and of header lengths move, too.
        ("tcp port 80", in_vxlan(IP(**NODES_4), IP(**V4, options=[IPOption_RR(routers=["0.0.0.0"])]) / HTTP), True),
        ("tcp[tcpflags] & tcp-syn != 0", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), True),
        ("tcp[tcpflags] & tcp-ack != 0", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), False),
        ("host 10.244.2.3 and not host 10.244.1.9", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), True),
        ("greater 60", IP(**V4) / HTTP, False),
        # What only looks like VXLAN: another port, a later fragment, another protocol.
        ("tcp port 80", in_vxlan(IP(**NODES_4), IP(**V4) / HTTP, port=8472), False),
        ("tcp port 80", in_vxlan(IP(**NODES_4, frag=100), IP(**V4) / HTTP), False),
        ("tcp port 80", IP(**NODES_4, proto=132) / bytes(in_vxlan(IP(**NODES_4), IP(**V4) / HTTP))[20:], False),
        # Much to decide: further than a conditional jump reaches.
        (" or ".join(f"tcp port {port}" for port in range(80, 140)), in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), True),
        (" or ".join(f"tcp port {port}" for port in range(81, 140)), in_vxlan(IP(**NODES_4), IP(**V4) / HTTP), False),
        ("", ARP(), True),
        (" ", IP(**V4) / DNS, True),
    ],
)
def test_a_filter_applies_to_a_packet_or_to_what_it_carries(expression: str, packet: Any, taken: bool) -> None:
    assert bool(kept(expression, packet)) is taken


@needs_tcpdump
@pytest.mark.parametrize("expression", ["", "udp"])
def test_so_many_bytes_are_kept(expression: str) -> None:
    assert kept(expression, IP(**V4) / DNS / bytes(1000), snaplen=100) == 100
    assert kept(expression, IP(**V4) / DNS / bytes(1000)) == 1042


@needs_tcpdump
@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("tcp prot 80", "filter 'tcp prot 80': can't parse filter expression: syntax error; see `man pcap-filter`"),
        ("tcp port nosuch", "filter 'tcp port nosuch': unknown port 'nosuch'; see `man pcap-filter`"),
        ("-w /tmp/elsewhere", "syntax error"),
        ("host 10.0.0.256", "10.0.0.256"),
        ("tcp\0", "null byte"),
        (" or ".join(f"(tcp src port {n} and host 10.{n}.0.1)" for n in range(250)), "at most 4096 are possible"),
    ],
)
def test_a_refusal_says_why_in_tcpdumps_words(expression: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_filter(expression)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_tcpdump_there_are_no_filters_but_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    assert len(compile_filter("")) == 1
    with pytest.raises(UnsupportedError, match="install the package tcpdump"):
        compile_filter("tcp")


def test_what_the_kernel_knows_of_a_packet_is_not_looked_for_inside() -> None:
    outgoing = parse("4\n40 0 0 4294963204\n21 0 1 4\n6 0 0 65535\n6 0 0 0\n")
    loads = [each.k for each in in_tunnel_too(outgoing) if each.code == 40 and each.k > 1000]
    assert loads == [0xFFFFF004] * 3


def test_a_program_that_the_kernel_refuses_is_a_filter_too_long() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(UsageError, match="more than this kernel accepts"):
        attach(theirs, (Instruction(6, 0, 0, 1),) * 5000, 100)
