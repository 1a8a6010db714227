"""Addresses and prefixes as integers.

The ipaddress module costs a plugin 5 ms to import (it pulls in functools and re); inet_pton is in the C module.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton


class Prefix:
    """An IPv4 or IPv6 network, or an address with its network's prefix length (`address` keeps the host bits).

    `bits` is 32 or 128, `length` the prefix length, `address` the whole address as an integer.
    """

    __slots__ = ("address", "bits", "length")

    def __init__(self, address: int, length: int, bits: int) -> None:
        self.address = address
        self.length = length
        self.bits = bits

    @property
    def first(self) -> int:
        """The network's own address."""
        return self.address >> self._host_bits << self._host_bits

    @property
    def last(self) -> int:
        """The highest address, which is IPv4's broadcast address."""
        return self.first + (1 << self._host_bits) - 1

    @property
    def _host_bits(self) -> int:
        return self.bits - self.length

    @property
    def packed(self) -> bytes:
        """The address in network byte order."""
        return self.address.to_bytes(self.bits // 8, "big")

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{format_address(self.address, self.bits)}/{self.length}"


def parse_address(text: str) -> tuple[int, int]:
    """The address as an integer, and its number of bits (32 or 128). Raises `ValueError`."""
    family = AF_INET6 if ":" in text else AF_INET
    try:
        packed = inet_pton(family, text)
    except OSError:
        raise ValueError(f"{text!r} is not an IP address") from None
    return int.from_bytes(packed, "big"), len(packed) * 8


def parse_prefix(text: str) -> Prefix:
    """Read `10.244.1.0/24` or `10.244.1.5/24`. Raises `ValueError`."""
    host, slash, length = text.partition("/")
    address, bits = parse_address(host)
    if not slash or not (length.isascii() and length.isdigit()) or int(length) > bits:
        raise ValueError(f"{text!r} is not an address with a prefix length, such as 10.244.1.0/24")
    return Prefix(address, int(length), bits)


def format_address(address: int, bits: int) -> str:
    """The address in its usual text form."""
    return inet_ntop(AF_INET if bits == 32 else AF_INET6, address.to_bytes(bits // 8, "big"))
