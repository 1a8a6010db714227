"""Interfaces of a test's own, and packets across them."""

from __future__ import annotations

import socket
import subprocess

from netlab.capture.engine import Source
from netlab.capture.taps import Tap

PORT = 4000
HERE, THERE = "192.0.2.1", "192.0.2.2"

PAIR = f"""
link set lo up
link add left type veth peer name right
addr add {HERE}/24 dev left
link set left up
link set right up
neigh add {THERE} lladdr 02:00:00:00:00:01 dev left
"""


def ip(script: str) -> None:
    """Run lines of `ip -batch` in the present namespace."""
    subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True)


def tap(interface: str, owner: str = "default/web-1") -> Tap:
    return Tap("node-1", owner, interface, "other")


def source(interface: str, owner: str = "default/web-1") -> Source:
    """A tap in the present network namespace."""
    return Source(tap(interface, owner), socket.socket(socket.AF_PACKET, socket.SOCK_RAW))


def send(count: int, address: str = THERE, *, first: int = 0, port: int = PORT, size: int = 8) -> None:
    """Send numbered datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(first, first + count):
            sender.sendto(number.to_bytes(8) + bytes(size - 8), (address, port))


def number(data: bytes) -> int:
    """That of a datagram, in its frame."""
    return int.from_bytes(data[42:50])
