"""The table of cases, with real packets: pods on a bridge, the world beyond the node, both families, all protocols.

A case's packets are sent all at once. Rules around the policies' note which of them came to the node and which went on.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from netlab.net.nftables.elements import Set
from netlab.net.nftables.socket import Nfnetlink
from netlab.policy.nftables.executor import NftablesExecutor
from tests.sandbox import isolated
from tests.system.proxy.hosts import Host
from tests.unit.policy.cases import CASES, connections, key_of
from tests.unit.policy.objects import book_of, parsed
from tests.unit.policy.truth import WORLD, cluster

_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_EVIDENCE = """
table inet evidence {
  set came { type inet_service; flags dynamic; size 65535; }
  set passed { type inet_service; flags dynamic; size 65535; }
  chain before { type filter hook forward priority -10
    meta l4proto { tcp, udp, sctp } ct direction original add @came { th sport }
  }
  chain behind { type filter hook forward priority 10
    meta l4proto { tcp, udp, sctp } ct direction original add @passed { th sport }
  }
}
"""
_PATIENCE = 20.0
"""Seconds in which packets have come, on the slowest machine."""


def send(source: str, destination: str, protocol: str, sport: int, port: int) -> None:
    """The first packet of a connection, made by hand: any kernel sends SCTP so."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ports = struct.pack("!HH", sport, port)
    packets = {
        "TCP": ports + struct.pack("!IIBBHHH", 1, 0, 5 << 4, 0x02, 1024, 0, 0),  # SYN
        "UDP": ports + struct.pack("!HH", 8, 0),
        "SCTP": ports + struct.pack("!II", 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1),  # INIT
    }
    with socket.socket(family, socket.SOCK_RAW, _NUMBERS[protocol]) as sending:
        sending.bind((source, 0))
        sending.sendto(packets[protocol], (destination, 0))


def network() -> dict[str, Host]:
    """The node, which is this namespace, its pods on a bridge, and the world; by address."""
    settings = {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/bridge/bridge-nf-call-iptables": "1",
        "net/bridge/bridge-nf-call-ip6tables": "1",
        "net/netfilter/nf_conntrack_checksum": "0",  # nobody fills them in
        "net/ipv6/conf/default/accept_dad": "0",
    }
    subprocess.run(["nft", "-f", "-"], input=_EVIDENCE, text=True, check=True)
    for name, value in settings.items():
        Path("/proc/sys", name).write_text(value, encoding="ascii")
    lines = ["link set lo up", "link add br0 type bridge", "link set br0 up"]
    lines += ["address add 10.244.0.1/16 dev br0", "address add fd00:10:244::ff/48 dev br0 nodad"]
    hosts: dict[str, Host] = {}
    ends = [(pod.key, pod.addresses, ("16", "48")) for pod in cluster().pods] + [("world", WORLD, ("24", "64"))]
    for number, (name, addresses, lengths) in enumerate(ends):
        host = Host(name)
        hosts |= dict.fromkeys(addresses, host)
        lines += [f"link add veth{number} type veth peer name eth0 netns {host.pid}", f"link set veth{number} up"]
        lines += (
            [f"link set veth{number} master br0"]
            if name != "world"
            else [
                f"address add 198.51.100.1/24 dev veth{number}",
                f"address add 2001:db8:ffff::1/64 dev veth{number} nodad",
            ]
        )
        own = [f"address add {each}/{length} dev eth0" for each, length in zip(addresses, lengths, strict=True)]
        gateways = ("198.51.100.1", "2001:db8:ffff::1") if name == "world" else ("10.244.0.1", "fd00:10:244::ff")
        routes = [f"route add default via {each}" for each in gateways]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        lines = []
        host.ip("\n".join([own[0], f"{own[1]} nodad", "link set lo up", "link set eth0 up", *routes]))
    return hosts


def seen(kernel: Nfnetlink, name: str) -> set[int]:
    return {int.from_bytes(each.key[:2], "big") for each in kernel.elements(Set("inet", "evidence", name))}


def until(kernel: Nfnetlink, name: str, wanted: Collection[int]) -> set[int]:
    """What has been noted, as soon as all that is wanted has."""
    deadline = time.monotonic() + _PATIENCE
    while not (found := seen(kernel, name)).issuperset(wanted) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


@isolated
def test_packets_go_where_the_table_of_cases_says() -> None:
    hosts, kernel = network(), Nfnetlink()
    book = book_of(cluster(), [])
    book.take_changes()
    executors = [NftablesExecutor("IPv4"), NftablesExecutor("IPv6")]
    for executor in executors:
        executor.replace(book.plan, book.profiles)
    port = 20000
    for case in CASES:
        for each in case.policies:
            book.set_policy(key_of(each), parsed(each))
        transaction = book.take_changes()
        for executor in executors:
            executor.apply(transaction)
        sent = {}
        for family in (0, 1):
            for dialled in connections(case, family):
                if dialled.source != dialled.destination:  # which no packet leaves the pod for
                    port += 1
                    sent[port] = dialled
                    hosts[dialled.source].call(
                        send, dialled.source, dialled.destination, dialled.protocol, port, dialled.port
                    )
        assert until(kernel, "came", sent) >= sent.keys(), case.name
        opened = {number for number, dialled in sent.items() if dialled.open}
        passed = until(kernel, "passed", opened) & sent.keys()
        assert passed == opened, (case.name, [sent[number] for number in passed ^ opened])
        for each in case.policies:
            book.set_policy(key_of(each), None)
