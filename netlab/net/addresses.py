"""Addresses as people and programs write them: families, brackets, wire form.

What a CNI plugin's ADD needs is in netlab.cni.spec.addresses, which imports C modules only.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable
from typing import Literal

Family = Literal["IPv4", "IPv6"]
"""Kubernetes' names (core/v1 IPFamily)."""


def family_of(address: str) -> Family:
    """The family of a valid address or network."""
    return "IPv6" if ":" in address else "IPv4"


def socket_family(address: str) -> socket.AddressFamily:
    """The family of a valid address, for a socket."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def of_family(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """The addresses or networks that are of a family, in their order."""
    return tuple(address for address in addresses if family_of(address) == family)


def bracketed(host: str) -> str:
    """A host as it stands before a colon: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int | str) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"{bracketed(host)}:{port}"


def end_text(host: str, port: int) -> str:
    """HOST:PORT, or HOST alone where there is no port."""
    return host_port(host, port) if port else host


@functools.lru_cache(4096)
def address_text(address: bytes) -> str:
    """A packed address as text."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def packed(address: str) -> bytes:
    """An address in network byte order. Raises `OSError` if it is not valid."""
    return socket.inet_pton(socket_family(address), address)


def packed_network(network: str) -> tuple[bytes, int]:
    """A subnet, or a link's address, as ADDRESS/LENGTH: in network byte order, and the prefix's length."""
    address, _, length = network.partition("/")
    return packed(address), int(length)
