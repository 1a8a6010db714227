"""Addresses that no interface has, as kernels on the link see them: a lab's own wires, and a speaker on them."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import subprocess
from collections.abc import Callable

from netlab.lab import topology
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.lab.spec import from_values
from netlab.net import syscalls
from netlab.net.namespaces import entered
from netlab.speaker.responder import Responder
from tests.sandbox import isolated

SPEC = from_values({"nodes": 2, "families": ["IPv4", "IPv6"]})
POOLS = SPEC.loadBalancerPools
V4, V6 = "192.0.2.128", "2001:db8::1:5"
BOTH = (V4, V6)
FOR_GOOD = dict.fromkeys(BOTH, math.inf)


def _wire() -> dict[str, int]:
    wires = topology.plan(SPEC)
    namespaces = {}
    for name in (*wires.machines, FABRIC):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        namespaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    topology.build(wires, namespaces)
    return namespaces


def _ip(namespace: int, *arguments: str) -> str:
    with entered(namespace):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _mac(namespace: int) -> str:
    return _ip(namespace, "-br", "link", "show", "eth0").split()[2]


def _neighbour(namespace: int, address: str) -> str:
    """The MAC address that a host has for another, if any."""
    words = _ip(namespace, "neigh", "show", address).split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def _responder(namespace: int, number: int) -> Responder:
    with entered(namespace):
        return Responder("eth0", POOLS, SPEC.node_addresses(number)[1])


def _ask(namespace: int, address: str) -> None:
    """Have a host resolve an address: it has a packet for it."""
    with entered(namespace), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, 2) as sender:
        sender.sendto(b"", (address, 9))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def _until_at(namespace: int, address: str, word: str) -> None:
    """Wait until a host says so of its neighbour."""
    await _until(lambda: word in _ip(namespace, "neigh", "show", address))


@isolated
def test_neighbours_find_the_address_and_follow_it() -> None:
    hosts = _wire()
    outside, macs = hosts[OUTSIDE], [_mac(hosts[node]) for node in SPEC.node_names]

    async def work() -> None:
        first, second = _responder(hosts["node-1"], 1), _responder(hosts["node-2"], 2)
        with first, second:
            first.announce(FOR_GOOD)
            for address in sorted(BOTH):
                _ask(outside, address)
                await _until_at(outside, address, macs[0])
            # Taken over, without a word of the first: as if it had been killed.
            first.announce({})
            second.announce(FOR_GOOD)
            for address in sorted(BOTH):
                second.tell(address)
                await _until_at(outside, address, macs[1])
            # What the neighbours know they verify by asking the one that they know.
            for address in sorted(BOTH):
                _ip(outside, "neigh", "change", address, "dev", "eth0", "nud", "probe")
                await _until_at(outside, address, "REACHABLE")

    asyncio.run(work())


@isolated
def test_it_answers_for_its_addresses_alone_and_no_interface_has_them() -> None:
    hosts = _wire()
    outside = hosts[OUTSIDE]
    others = ("192.0.2.129", "192.0.2.90", "2001:db8::1:6", "2001:db8::90")

    async def work() -> None:
        with _responder(hosts["node-1"], 1) as responder:
            responder.announce(FOR_GOOD)
            for address in (*others, V4, V6):
                _ask(outside, address)
            await _until(lambda: all(_neighbour(outside, address) for address in BOTH))
            assert [_neighbour(outside, address) for address in others] == [""] * len(others)
            assert not any(address in _ip(hosts["node-1"], "addr") for address in BOTH)
            group = "ff02::1:ff01:5"
            assert group in _ip(hosts["node-1"], "maddr", "show", "dev", "eth0")
            responder.announce({V4: math.inf})
            assert group not in _ip(hosts["node-1"], "maddr", "show", "dev", "eth0")

    asyncio.run(work())


@isolated
def test_a_probe_for_duplicates_finds_it() -> None:
    """A host that is given an address of the pool by mistake sees that it is taken (RFC 4862, 5.4)."""
    hosts = _wire()
    outside = hosts[OUTSIDE]

    async def work() -> None:
        with _responder(hosts["node-1"], 1) as responder:
            responder.announce(FOR_GOOD)
            with entered(outside):
                subprocess.run(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"], check=True)
            _ip(outside, "addr", "add", f"{V6}/64", "dev", "eth0")
            await _until(lambda: "dadfailed" in _ip(outside, "addr", "show", "dev", "eth0"))

    asyncio.run(work())


@isolated
def test_a_node_whose_time_is_over_leaves_the_addresses_to_another() -> None:
    """As after a pause: it still believes that it has them, and what was asked meanwhile waits to be read."""
    hosts = _wire()
    outside, macs = hosts[OUTSIDE], [_mac(hosts[node]) for node in SPEC.node_names]

    async def work() -> None:
        first, second = _responder(hosts["node-1"], 1), _responder(hosts["node-2"], 2)
        with first, second:
            second.announce(FOR_GOOD)
            for address in BOTH:
                _ask(outside, address)
                await _until_at(outside, address, macs[1])
            first.announce(dict.fromkeys(BOTH, asyncio.get_running_loop().time()))
            for address in BOTH:
                first.tell(address)
                _ip(outside, "neigh", "flush", address)
                _ask(outside, address)
                await _until_at(outside, address, "REACHABLE")
                assert _neighbour(outside, address) == macs[1]

    asyncio.run(work())
