"""ARP (RFC 826) and neighbour discovery (RFC 4861): questions read, answers and announcements made. Pure."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netlab.net.addresses import address_text, packed
from netlab.net.bpf import Instruction, Program

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_NEIGHBOUR = struct.Struct("!BBHI16s")
_REQUEST, _REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOLICITED, _OVERRIDE = 0x4000_0000, 0x2000_0000
_TARGET_LINK_LAYER_ADDRESS = 2
_HOP_LIMIT = 255

_EVERYBODY = b"\xff" * 6
_ALL_NODES, _ALL_NODES_MAC = packed("ff02::1"), bytes.fromhex("333300000001")
_UNSPECIFIED = bytes(16)

# Classic BPF (linux/bpf_common.h).
_WORD_AT, _HALF_AT, _BYTE_AT, _AND, _IF_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x54, 0x15, 0x06
_WHOLE = 0xFFFF_FFFF
_ARP_TARGET = _ETHERNET.size + 24
_NEIGHBOUR_AT = _ETHERNET.size + _IPV6.size
_NEIGHBOUR_TARGET = _NEIGHBOUR_AT + 8


class Question(NamedTuple):
    """Who has `target`? Asked by a host, which may have no address yet (a probe for duplicates)."""

    target: str
    mac: bytes
    address: bytes
    """Packed."""


def arp_question(frame: bytes) -> Question | None:
    """The question of an ARP request; None for any other frame."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    hardware, protocol, hardware_size, size, operation, mac, address, _, target = _ARP.unpack_from(
        frame, _ETHERNET.size
    )
    if (hardware, protocol, hardware_size, size, operation) != (1, 0x0800, 6, 4, _REQUEST):
        return None
    return Question(address_text(target), mac, address)


def arp_answer(question: Question, mac: bytes) -> bytes:
    """The reply that `mac` has the target."""
    target = packed(question.target)
    return _arp(_REPLY, question.mac, mac, target, question.mac, question.address)


def arp_announcement(address: str, mac: bytes) -> bytes:
    """A gratuitous ARP request: neighbours that have the address in a table take the new MAC address (RFC 5227, 3)."""
    own = packed(address)
    return _arp(_REQUEST, _EVERYBODY, mac, own, bytes(6), own)


def _arp(operation: int, to: bytes, mac: bytes, address: bytes, target_mac: bytes, target: bytes) -> bytes:
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, address, target_mac, target)
    return _ETHERNET.pack(to, mac, ETH_P_ARP) + body


def neighbour_question(frame: bytes) -> Question | None:
    """The question of a neighbour solicitation; None for any other frame, or one from beyond this link (7.1.1)."""
    if len(frame) < _NEIGHBOUR_AT + _NEIGHBOUR.size:
        return None
    _, sender, _ = _ETHERNET.unpack_from(frame)
    _, _, header, hops, address, _ = _IPV6.unpack_from(frame, _ETHERNET.size)
    kind, code, _, _, target = _NEIGHBOUR.unpack_from(frame, _NEIGHBOUR_AT)
    if (header, hops, kind, code) != (socket.IPPROTO_ICMPV6, _HOP_LIMIT, _SOLICITATION, 0):
        return None
    return Question(address_text(target), sender, address)


def neighbour_answer(question: Question, mac: bytes, source: str) -> bytes:
    """The advertisement that `mac` has the target, from an address of the sender's; to all if a probe asked (7.2.4)."""
    target = packed(question.target)
    if question.address == _UNSPECIFIED:
        return _advertisement(_OVERRIDE, _ALL_NODES_MAC, _ALL_NODES, mac, packed(source), target)
    flags = _SOLICITED | _OVERRIDE
    return _advertisement(flags, question.mac, question.address, mac, packed(source), target)


def neighbour_announcement(address: str, mac: bytes, source: str) -> bytes:
    """An unsolicited advertisement (RFC 4861, 7.2.6)."""
    return _advertisement(_OVERRIDE, _ALL_NODES_MAC, _ALL_NODES, mac, packed(source), packed(address))


def _advertisement(flags: int, to_mac: bytes, to: bytes, mac: bytes, source: bytes, target: bytes) -> bytes:
    option = bytes((_TARGET_LINK_LAYER_ADDRESS, 1)) + mac
    body = _NEIGHBOUR.pack(_ADVERTISEMENT, 0, 0, flags, target) + option
    checksum = _checksum(source + to + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    header = _IPV6.pack(6 << 28, len(body), socket.IPPROTO_ICMPV6, _HOP_LIMIT, source, to)
    return _ETHERNET.pack(to_mac, mac, ETH_P_IPV6) + header + body[:2] + checksum.to_bytes(2) + body[4:]


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def solicited_node(address: str) -> bytes:
    """The multicast group, packed, to which solicitations for an address go (RFC 4291, 2.7.1)."""
    return bytes.fromhex("ff0200000000000000000001ff") + packed(address)[-3:]


def arp_filter(networks: Iterable[str]) -> Program:
    """Accepts ARP requests for addresses of the IPv4 networks: a node hears many for others."""
    own = [ipaddress.ip_network(each) for each in networks if ":" not in each]
    return (*_unless(_HALF_AT, _ETHERNET.size + 6, _REQUEST), *_targets(own, _ARP_TARGET))


def neighbour_filter(networks: Iterable[str]) -> Program:
    """Accepts neighbour solicitations for addresses of the IPv6 networks."""
    own = [ipaddress.ip_network(each) for each in networks if ":" in each]
    return (
        *_unless(_BYTE_AT, _ETHERNET.size + 6, socket.IPPROTO_ICMPV6),
        *_unless(_BYTE_AT, _NEIGHBOUR_AT, _SOLICITATION),
        *_targets(own, _NEIGHBOUR_TARGET),
    )


def _unless(load: int, offset: int, value: int) -> tuple[Instruction, ...]:
    """Refuse the packet unless it has the value there."""
    return (
        Instruction(load, 0, 0, offset),
        Instruction(_IF_EQUAL, 1, 0, value),
        Instruction(_RETURN, 0, 0, 0),
    )


def _targets(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], at: int) -> Iterator[Instruction]:
    for network in networks:
        words = list(zip(_words(network.network_address), _words(network.netmask), strict=True))
        for number, (wanted, mask) in enumerate(words):
            # A word that differs leads past the network's rest: three instructions a word, and the one that accepts.
            left = 3 * (len(words) - number - 1) + 1
            yield Instruction(_WORD_AT, 0, 0, at + 4 * number)
            yield Instruction(_AND, 0, 0, mask)
            yield Instruction(_IF_EQUAL, 0, left, wanted)
        yield Instruction(_RETURN, 0, 0, _WHOLE)
    yield Instruction(_RETURN, 0, 0, 0)


def _words(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[int, ...]:
    return struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
