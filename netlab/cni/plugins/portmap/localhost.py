"""The node's own way to its containers from 127.0.0.1.

The kernel lets a packet with such an address leave only by a link with route_localnet. The address of its sender is
translated before it is on the wire, and that of the answer back before it is routed.
"""

from __future__ import annotations

import errno
from _socket import if_indextoname

from netlab.net.netlink import NETLINK_ROUTE, Netlink, NetlinkError
from netlab.net.route.routes import route_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.addresses import Prefix


def allow(addresses: list[Prefix]) -> None:
    """Open the way to the container's IPv4 address, where this node is its neighbour. Raises `OSError`.

    It stays open when the container goes: others have the same bridge, and what has a link alone takes it along.
    """
    name = _sysctl(addresses)
    if name and not _is_set(name):
        with open(name, "wb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 15 ms to import
            file.write(b"1")


def closed(addresses: list[Prefix]) -> str:
    """The sysctl that keeps the way closed; empty if it is open, or there is none. Raises `OSError`."""
    name = _sysctl(addresses)
    return name if name and not _is_set(name) else ""


def _is_set(name: str) -> bool:
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read().strip() == b"1"


def _sysctl(addresses: list[Prefix]) -> str:
    for address in addresses:
        if address.bits == 32:
            index = _link_to(address)
            return f"/proc/sys/net/ipv4/conf/{if_indextoname(index)}/route_localnet" if index else ""
    return ""


def _link_to(address: Prefix) -> int:
    """The index of the link on which this node reaches an address directly; 0 if by a gateway or not at all."""
    try:
        with Netlink(NETLINK_ROUTE) as kernel:
            route = route_to(kernel, address.packed)
    except NetlinkError as error:
        if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
            return 0
        raise
    return 0 if route.gateway else route.index
