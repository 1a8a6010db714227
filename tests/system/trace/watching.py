"""A small capture for the tests of predictions: one packet socket for each network namespace of a lab."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from netlab.capture.headers import ICMP, ICMPV6, Headers, parse
from netlab.lab.network_envoy import NetworkEnvoy
from netlab.net.addresses import address_text

T = TypeVar("T")

_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_QUIET = 0.1
_NEIGHBOURHOOD = range(130, 144)
"""ICMPv6 of the link itself: NDP (RFC 4861) and MLD."""


class Seen(NamedTuple):
    """A packet at an interface."""

    time: int
    owner: str
    interface: str
    direction: str
    headers: Headers

    def __str__(self) -> str:
        h = self.headers
        source, sport, destination, dport = h.flow
        ends = f"{address_text(source)}.{sport} > {address_text(destination)}.{dport}"
        carried = f" in {h.carrier}" if h.carrier else ""
        return f"{self.owner} {self.interface} {self.direction} {ends} ttl {h.ttl} {h.flag_letters}{carried}"


def watched(envoy: NetworkEnvoy, act: Callable[[], T]) -> tuple[T, list[Seen]]:
    """What `act` returns, and what all interfaces of the lab saw of IP during it, in order of time."""
    sockets: dict[socket.socket, str] = {}
    try:
        for network in envoy.listed():
            made = envoy.socket(network, socket.AF_PACKET, socket.SOCK_RAW)
            sockets[made] = network.owner
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            _bind_everywhere(made)
        result = act()
        seen = list(_drained(sockets))
    finally:
        for made in sockets:
            made.close()
    return result, sorted(seen, key=lambda one: one.time)


def _drained(sockets: dict[socket.socket, str]) -> list[Seen]:
    time.sleep(_QUIET)
    seen: list[Seen] = []
    for made, owner in sockets.items():
        for data, ancillary, address in _waiting(made):
            headers = parse(data)
            if headers is None or (headers.protocol == ICMPV6 and headers.icmp_type in _NEIGHBOURHOOD):
                continue
            seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2][:16])
            direction = "out" if address[2] == _PACKET_OUTGOING else "in"
            seen.append(Seen(seconds * 10**9 + nanoseconds, owner, address[0], direction, headers))
    return seen


def _waiting(made: socket.socket) -> Iterator[tuple[bytes, list[Any], Any]]:
    """What a socket has received, with ancillary data and the address."""
    while True:
        try:
            data, ancillary, _, address = made.recvmsg(65536, 256, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        yield data, ancillary, address


def is_error(headers: Headers) -> bool:
    """Whether it is an ICMP error."""
    return headers.protocol in (ICMP, ICMPV6) and headers.quoted is not None


def _bind_everywhere(made: socket.socket) -> None:
    """All interfaces, those that come later too: Python's own bind wants the name of one."""
    everywhere = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(made.fileno(), everywhere, len(everywhere)):
        raise OSError(ctypes.get_errno(), "bind")
