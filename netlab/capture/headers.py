"""The headers of a frame as one small value, read by struct at the protocols' fixed offsets.

A capture of a few seconds may hold hundreds of thousands of frames: scapy takes a millisecond for each, this a few
microseconds. For a VXLAN packet (RFC 7348), the inner packet is read, with the outer one as its carrier.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from netlab.net.addresses import address_text, end_text
from netlab.net.route.vxlan import VXLAN_PORT

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
VXLAN_PORTS = frozenset({VXLAN_PORT, 8472})
"""VXLAN's ports: IANA's, which netlab uses, and the kernel's older default, which flannel uses."""

DIGESTED = 512
"""Bytes of a payload that its digest covers. With a snap length 192 larger it is the same inside a tunnel."""

Flow = tuple[bytes, int, bytes, int]
"""Source, source port, destination, destination port. Addresses are packed; both ports of an ICMP query are its
identifier."""

_ETHERNET = 14
_IPV4, _IPV6, _VLANS = 0x0800, 0x86DD, (0x8100, 0x88A8)
_EXTENSIONS = (0, 43, 60, 135)
"""IPv6 extension headers that begin with the next header and their length in units of 8 bytes (RFC 8200, 6275)."""
_FRAGMENT, _AUTHENTICATION = 44, 51
_QUERIES = {ICMP: (0, 8, 13, 14), ICMPV6: (128, 129)}
_REPLIES = {ICMP: (0, 14), ICMPV6: (129,)}
_ERRORS = {ICMP: (3, 4, 5, 11, 12), ICMPV6: (1, 2, 3, 4)}
_TOO_BIG = {(ICMP, 3, 4), (ICMPV6, 2, 0)}
_PROTOCOL_NAMES = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6", SCTP: "SCTP"}
_ALIGNED_TIMESTAMP = b"\1\1\x08\x0a"
"""How Linux and most others begin the options of a segment after the handshake (RFC 7323, appendix A)."""

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_V4_HEADER = struct.Struct("!BxHHHBBxx4s4s")
_V6_HEADER = struct.Struct("!BxxxHBB16s16s")
_V6_FRAGMENT = struct.Struct("!BxHI")
_TCP_HEADER = struct.Struct("!HHIIBB")
_UDP_HEADER = struct.Struct("!HHH")
_ICMP_HEADER = struct.Struct("!BBxxHH")
_VXLAN_HEADER = struct.Struct("!BxxxI")


class Carrier(NamedTuple):
    """The tunnel around a packet: the VXLAN network, and the tunnel's two ends."""

    vni: int
    source: bytes
    destination: bytes

    def __str__(self) -> str:
        return f"VXLAN {self.vni} {address_text(self.source)} > {address_text(self.destination)}"


class Headers(NamedTuple):
    """The headers of one IP packet; for a VXLAN packet, those of the inner packet.

    Addresses are packed; numbers that a protocol does not have are 0. `ttl` is also IPv6's hop limit, `length` the IP
    packet's in bytes (0 beyond 64 KiB, as BIG TCP does not give it), `identification` IPv4's, or that of IPv6's
    fragment header. `fragment` is the offset in bytes, `more` says that others follow; fragments after the first have
    no ports. `flags`, `seq`, `ack` and `timestamp` (TSval) are TCP's. `mtu` is the next link's, from an ICMP error.
    `payload` is the number of bytes after the transport header and `digest` a checksum of the first 512. `carrier` is
    the VXLAN packet around it. `quoted` is the packet that an ICMP error is about, as far as it is quoted.
    """

    version: int
    protocol: int
    source: bytes
    sport: int
    destination: bytes
    dport: int
    ttl: int
    length: int
    identification: int = 0
    fragment: int = 0
    more: bool = False
    flags: int = 0
    seq: int = 0
    ack: int = 0
    timestamp: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    icmp_id: int = 0
    icmp_seq: int = 0
    mtu: int = 0
    payload: int = 0
    digest: int = 0
    carrier: Carrier | None = None
    quoted: Headers | None = None

    @property
    def flow(self) -> Flow:
        """Source and destination, as in conntrack's tuples."""
        if self.protocol in _QUERIES:
            return (self.source, self.icmp_id, self.destination, self.icmp_id)
        return (self.source, self.sport, self.destination, self.dport)

    @property
    def answers(self) -> bool:
        """Whether the headers mark it as an answer: SYN with ACK, or the reply to an ICMP query."""
        if self.protocol == TCP:
            return self.flags & (SYN | ACK) == SYN | ACK
        return self.icmp_type in _REPLIES.get(self.protocol, ())

    @property
    def flag_letters(self) -> str:
        """TCP's flags as tcpdump and scapy write them: S, SA, FA, R ..."""
        return "".join(letter for bit, letter in enumerate("FSRPAUEC") if self.flags >> bit & 1)

    def __str__(self) -> str:
        ends = f"{endpoint_text(self.source, self.sport)} > {endpoint_text(self.destination, self.dport)}"
        said = f" [{self.flag_letters}]" if self.protocol == TCP else ""
        if self.protocol in _QUERIES:
            said = f" type {self.icmp_type} code {self.icmp_code}"
        part = f" fragment at {self.fragment}" if self.fragment or self.more else ""
        about = f" about ({self.quoted})" if self.quoted else ""
        carried = f" in {self.carrier}" if self.carrier else ""
        return f"{ends} {protocol_name(self.protocol)}{said}{part}{about}{carried}"


def parse(data: bytes) -> Headers | None:
    """The headers of an Ethernet frame; None if it is not an IP packet, or too short, or malformed. Never raises."""
    try:
        return _frame(data, 0, None)
    except struct.error:
        return None


def swapped(flow: Flow) -> Flow:
    """The flow in the other direction."""
    source, sport, destination, dport = flow
    return (destination, dport, source, sport)


def endpoint_text(address: bytes, port: int) -> str:
    """An address and its port; without a port, only the address."""
    return end_text(address_text(address), port)


def protocol_name(number: int) -> str:
    """TCP, UDP, ICMP, ICMPv6, SCTP, or the number."""
    return _PROTOCOL_NAMES.get(number, str(number))


def _frame(data: bytes, at: int, carrier: Carrier | None) -> Headers | None:
    (kind,) = _U16.unpack_from(data, at + 12)
    at += _ETHERNET
    while kind in _VLANS:
        (kind,) = _U16.unpack_from(data, at + 2)
        at += 4
    if kind == _IPV4:
        return _ipv4(data, at, carrier)
    if kind == _IPV6:
        return _ipv6(data, at, carrier)
    return None


def _ipv4(data: bytes, at: int, carrier: Carrier | None, *, quotation: bool = False) -> Headers | None:
    first, total, identification, part, ttl, protocol, source, destination = _V4_HEADER.unpack_from(data, at)
    size = (first & 0x0F) * 4
    if first >> 4 != 4 or size < 20 or 0 < total < size:
        return None
    packet = Headers(
        4, protocol, source, 0, destination, 0, ttl, total, identification, (part & 0x1FFF) * 8, bool(part & 0x2000)
    )
    return _inside(data, at + size, at + total if total else len(data), packet, carrier, quotation)


def _ipv6(data: bytes, at: int, carrier: Carrier | None, *, quotation: bool = False) -> Headers | None:
    first, size, protocol, ttl, source, destination = _V6_HEADER.unpack_from(data, at)
    if first >> 4 != 6:
        return None
    begin = at + _V6_HEADER.size
    end = begin + size if size else len(data)
    identification, part = 0, 0
    while True:
        if protocol in _EXTENSIONS:
            protocol, units = struct.unpack_from("!BB", data, begin)
            begin += (units + 1) * 8
        elif protocol == _AUTHENTICATION:  # its length is in units of 4 bytes, minus 2 (RFC 4302)
            protocol, units = struct.unpack_from("!BB", data, begin)
            begin += (units + 2) * 4
        elif protocol == _FRAGMENT:
            protocol, part, identification = _V6_FRAGMENT.unpack_from(data, begin)
            begin += _V6_FRAGMENT.size
            if part & 0xFFF8:  # not the first fragment: no headers follow
                break
        else:
            break
    total = size + _V6_HEADER.size if size else 0
    packet = Headers(6, protocol, source, 0, destination, 0, ttl, total, identification, part & 0xFFF8, bool(part & 1))
    return _inside(data, begin, end, packet, carrier, quotation)


def _inside(
    data: bytes, at: int, end: int, packet: Headers, carrier: Carrier | None, quotation: bool
) -> Headers | None:
    """The packet with the headers after its IP header, which are from `at` to `end` (the capture may end earlier)."""
    if packet.fragment:
        return packet._replace(payload=max(end - at, 0), digest=_digest(data, at, end), carrier=carrier)
    if quotation:
        return _quoted(data, at, packet)
    if packet.protocol == TCP:
        return _tcp(data, at, end, packet, carrier)
    if packet.protocol == UDP:
        return _udp(data, at, end, packet, carrier)
    if packet.protocol in _QUERIES:
        return _icmp(data, at, end, packet, carrier)
    return packet._replace(payload=max(end - at, 0), digest=_digest(data, at, end), carrier=carrier)


def _tcp(data: bytes, at: int, end: int, packet: Headers, carrier: Carrier | None) -> Headers | None:
    sport, dport, seq, ack, words, flags = _TCP_HEADER.unpack_from(data, at)
    begin = at + (words >> 4) * 4
    if begin < at + 20:
        return None
    return packet._replace(
        sport=sport,
        dport=dport,
        flags=flags,
        seq=seq,
        ack=ack,
        timestamp=_timestamp(data[at + 20 : begin]) if begin > at + 20 else 0,
        payload=max(end - begin, 0),
        digest=_digest(data, begin, end),
        carrier=carrier,
    )


def _timestamp(options: bytes) -> int:
    """TSval (RFC 7323): it distinguishes a retransmission from the original if IP has no identification."""
    at = 2 if options.startswith(_ALIGNED_TIMESTAMP) else 0
    while at + 10 <= len(options):
        kind = options[at]
        if kind == 8:
            value: int = _U32.unpack_from(options, at + 2)[0]
            return value
        if kind == 0:
            break
        at += 1 if kind == 1 else max(options[at + 1], 2)
    return 0


def _udp(data: bytes, at: int, end: int, packet: Headers, carrier: Carrier | None) -> Headers | None:
    sport, dport, _ = _UDP_HEADER.unpack_from(data, at)
    begin = at + 8
    if dport in VXLAN_PORTS and carrier is None:
        inner = _vxlan(data, begin, packet)
        if inner is not None:
            return inner
    return packet._replace(
        sport=sport,
        dport=dport,
        payload=max(end - begin, 0),
        digest=_digest(data, begin, end),
        carrier=carrier,
    )


def _vxlan(data: bytes, at: int, outer: Headers) -> Headers | None:
    """The inner packet of VXLAN; None if this is not VXLAN, or does not carry IP (ARP)."""
    try:
        flags, network = _VXLAN_HEADER.unpack_from(data, at)
        if not flags & 0x08:
            return None
        return _frame(data, at + _VXLAN_HEADER.size, Carrier(network >> 8, outer.source, outer.destination))
    except struct.error:
        return None


def _icmp(data: bytes, at: int, end: int, packet: Headers, carrier: Carrier | None) -> Headers | None:
    kind, code, high, low = _ICMP_HEADER.unpack_from(data, at)
    protocol, begin = packet.protocol, at + _ICMP_HEADER.size
    found = packet._replace(
        icmp_type=kind, icmp_code=code, payload=max(end - begin, 0), digest=_digest(data, begin, end), carrier=carrier
    )
    if kind in _QUERIES[protocol]:
        return found._replace(icmp_id=high, icmp_seq=low)
    if kind in _ERRORS[protocol]:
        mtu = 0
        if (protocol, kind, code) in _TOO_BIG:
            mtu = low if protocol == ICMP else high << 16 | low
        # NAT also translates the quoted packet, so that a digest of it would differ after NAT.
        return found._replace(mtu=mtu, digest=0, quoted=_quotation(data, begin, protocol))
    return found


def _quotation(data: bytes, at: int, protocol: int) -> Headers | None:
    try:
        read = _ipv4 if protocol == ICMP else _ipv6
        return read(data, at, None, quotation=True)
    except struct.error:
        return None


def _quoted(data: bytes, at: int, packet: Headers) -> Headers:
    """A quoted packet: only 8 bytes of its transport header are guaranteed (RFC 792)."""
    if packet.protocol in _QUERIES:
        kind, code, high, low = _ICMP_HEADER.unpack_from(data, at)
        packet = packet._replace(icmp_type=kind, icmp_code=code)
        return packet._replace(icmp_id=high, icmp_seq=low) if kind in _QUERIES[packet.protocol] else packet
    if packet.protocol not in (TCP, UDP):
        return packet
    sport, dport, seq = struct.unpack_from("!HHI", data, at)
    return packet._replace(sport=sport, dport=dport, seq=seq if packet.protocol == TCP else 0)


def _digest(data: bytes, begin: int, end: int) -> int:
    return zlib.crc32(data[begin : min(end, begin + DIGESTED)])
