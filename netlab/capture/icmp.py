"""ICMP and ICMPv6 messages in words, for tables, drawings and verdicts."""

from __future__ import annotations

from netlab.capture.headers import ICMP, ICMPV6, Headers

_TYPES = {
    (ICMP, 0): "echo reply",
    (ICMP, 3): "destination unreachable",
    (ICMP, 5): "redirect",
    (ICMP, 8): "echo request",
    (ICMP, 11): "TTL exceeded",
    (ICMPV6, 1): "destination unreachable",
    (ICMPV6, 2): "packet too big",
    (ICMPV6, 3): "hop limit exceeded",
    (ICMPV6, 128): "echo request",
    (ICMPV6, 129): "echo reply",
    (ICMPV6, 133): "router solicitation",
    (ICMPV6, 134): "router advertisement",
    (ICMPV6, 135): "neighbour solicitation",
    (ICMPV6, 136): "neighbour advertisement",
    (ICMPV6, 143): "multicast listener report",
}
_CODES = {
    (ICMP, 3, 0): "network unreachable",
    (ICMP, 3, 1): "host unreachable",
    (ICMP, 3, 2): "protocol unreachable",
    (ICMP, 3, 3): "port unreachable",
    (ICMP, 3, 4): "packet too big",
    (ICMP, 3, 9): "network administratively prohibited",
    (ICMP, 3, 10): "host administratively prohibited",
    (ICMP, 3, 13): "administratively prohibited",
    (ICMPV6, 1, 0): "no route",
    (ICMPV6, 1, 1): "administratively prohibited",
    (ICMPV6, 1, 3): "address unreachable",
    (ICMPV6, 1, 4): "port unreachable",
}
"""Types whose codes say more than the type (RFC 792, RFC 1812, RFC 4443)."""


def words(headers: Headers) -> str:
    """What the packet says, with the MTU if it gives one; for an unknown kind, its numbers."""
    kind = (headers.protocol, headers.icmp_type)
    said = _CODES.get((*kind, headers.icmp_code)) or _TYPES.get(kind, f"type {headers.icmp_type}")
    if said == "destination unreachable":
        said += f" (code {headers.icmp_code})"
    return f"{said} for MTU {headers.mtu}" if headers.mtu else said


_BRIEF = {"destination unreachable": "unreachable", "packet too big": "too big", "no route": "no route"}


def brief(headers: Headers) -> str:
    """What the packet says in a word or two, for a narrow column."""
    kind = (headers.protocol, headers.icmp_type)
    general = _TYPES.get(kind, f"type {headers.icmp_type}")
    said = _CODES.get((*kind, headers.icmp_code), general)
    return _BRIEF.get(said) or _BRIEF.get(general) or general


def is_query(headers: Headers) -> bool:
    """Whether it is an echo request or the reply to one."""
    return (headers.protocol, headers.icmp_type) in ((ICMP, 0), (ICMP, 8), (ICMPV6, 128), (ICMPV6, 129))
