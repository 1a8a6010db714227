"""What nftables does to one probe's packets in one network namespace: every rule they meet, as the kernel reports it.

The packets are recognised by what no translation changes (`Signature`), not by addresses and ports. So the same rules
find them before and after every DNAT and masquerade, inside a tunnel, and on their way back. The table that marks them
belongs to a socket (NFT_TABLE_F_OWNER, Linux 5.12): it goes with the socket, even on kill -9, and `nft flush ruleset`
leaves it alone. Constants are the kernel's (include/uapi/linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Self

from netlab.net.multicast import Notices
from netlab.net.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attribute, attributes, messages, nested
from netlab.net.nftables import FAMILIES, expressions, rules
from netlab.net.nftables.elements import Verdict
from netlab.net.nftables.rules import Chain
from netlab.net.nftables.socket import Nfnetlink

TABLE_PREFIX = "netlab-trace-"
"""The prefix of the table's name in every trace; the process id follows."""

_NETLINK_NETFILTER = 12
_GROUP_NFTRACE = 9
_SUBSYSTEM = 10
_NEWTABLE, _NEWCHAIN, _NEWSET, _TRACE = (_SUBSYSTEM << 8 | kind for kind in (0, 3, 9, 17))
_OWNER = 0x2
_SET_EVAL = 0x20
_META_NFTRACE, _CT_ID = 12, 23
_CMP_GTE, _CMP_LTE = 5, 3
_TRANSPORT_HEADER = 2
_REGISTER = 8  # NFT_REG32_00
_PREROUTING, _OUTPUT = 0, 3
_BEFORE_RAW, _BEHIND_CONNTRACK = -350, -199
_RECEIVE_BUFFER = 1 << 20
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2

_HEADER = struct.Struct("!BBH")
_U32, _S32, _U64 = struct.Struct("!I"), struct.Struct("!i"), struct.Struct("!Q")
_FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
_KINDS: dict[int, Literal["policy", "return", "rule"]] = {1: "policy", 2: "return", 3: "rule"}

_TUNNEL = 8 + 8 + 14
"""Bytes of UDP, VXLAN and Ethernet headers between the transport header of a VXLAN packet and the inner IP header."""
_IP_HEADERS = (20, 40)


MakeSocket = Callable[[int, int, int], socket.socket]
"""Makes a socket of a family, kind and protocol, in some network namespace; it may raise `OSError`."""


class Pattern(NamedTuple):
    """Bytes at an offset from the transport header, from `first` to `last` as big-endian numbers."""

    offset: int
    first: bytes
    last: bytes


class Signature(NamedTuple):
    """How to recognise the packets of a probe and of its answers: the protocol number, and any of these patterns."""

    protocol: int
    patterns: tuple[Pattern, ...]


class Step(NamedTuple):
    """A rule that matched, or the policy of a chain, and its verdict on a packet.

    `packet` is the same number for all steps of a packet in a network namespace, as long as it is not encapsulated.
    `network` and `transport` are the first bytes of its headers in the first step of each base chain, otherwise empty.
    `handle` is the rule's number, 0 for a policy; `iif` and `oif` are the interfaces' indexes, 0 for none.
    """

    family: str
    table: str
    chain: str
    handle: int
    kind: Literal["policy", "return", "rule"]
    verdict: Verdict
    packet: int
    network: bytes
    transport: bytes
    iif: int
    oif: int


class Tracer:
    """Watches a probe's packets in the network namespace in which `make` makes sockets.

    Raises `NetlinkError` and `OSError`.

    With `tracked` it also follows the connection: everything that conntrack assigns to it, such as an answer that
    shares no bytes with the question, or an ICMP error. That turns conntrack on, so use it only in namespaces that
    have it anyway. `lost` says that the kernel reported more than was read in time; `table` is the name of the table
    that marks the packets.
    """

    def __init__(self, signature: Signature, make: MakeSocket = socket.socket, *, tracked: bool) -> None:
        self.table = f"{TABLE_PREFIX}{os.getpid()}"
        made = make(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._notices = Notices([_GROUP_NFTRACE], _RECEIVE_BUFFER, made)
        self._owner = Nfnetlink(make(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER))
        try:
            self._owner.commit(_table(self.table, signature, tracked=tracked))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; the kernel removes the table with its socket."""
        self._owner.close()
        self._notices.close()

    @property
    def lost(self) -> bool:
        """Whether the kernel reported more than the socket's buffer could hold."""
        return self._notices.lost > 0

    def fileno(self) -> int:
        """For select(2): readable when there are steps."""
        return self._notices.fileno()

    def steps(self) -> list[Step]:
        """What happened since the last call, in order."""
        return [step for data in self._notices.datagrams() for step in decode(data)]


def decode(data: bytes) -> Iterator[Step]:
    """The steps in what a socket of group NFNLGRP_NFTRACE received."""
    return (_step(payload) for kind, _, _, payload in messages(data) if kind == _TRACE)


def _step(payload: bytes) -> Step:
    found = dict(attributes(payload, _HEADER.size))
    verdict = dict(attributes(found.get(5, b"")))
    code = _S32.unpack(verdict[_VERDICT_CODE])[0] if verdict else _S32.unpack(found[16])[0]
    return Step(
        # The table's family; attribute NFPROTO (15) has the packet's.
        _FAMILY_NAMES.get(payload[0], str(payload[0])),
        _text(found.get(1, b"")),
        _text(found.get(2, b"")),
        _U64.unpack(found[3])[0] if 3 in found else 0,
        _KINDS[_U32.unpack(found[4])[0]],
        Verdict(code, _text(verdict.get(_VERDICT_CHAIN, b""))),
        _U32.unpack(found[6])[0],
        found.get(8, b""),
        found.get(9, b""),
        _U32.unpack(found.get(10, bytes(4)))[0],
        _U32.unpack(found.get(12, bytes(4)))[0],
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


# --- The table --------------------------------------------------------------------------------------------------------


def _table(name: str, signature: Signature, *, tracked: bool) -> list[Message]:
    """The messages that make a table that marks the packets of a signature."""
    header = _HEADER.pack(FAMILIES["inet"], 0, 0)
    table = header + _name(1, name) + attribute(2, _U32.pack(_OWNER))
    listed = [Message(f"table inet {name}", _NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, table)]
    trace = [expressions.constant(15, b"\1"), _meta_set(_META_NFTRACE, 15)]
    matches = list(_matches(signature))
    for hook, where in ((_PREROUTING, "prerouting"), (_OUTPUT, "output")):
        chain = Chain("inet", name, f"{where}-raw")
        listed.append(_base_chain(chain, hook, _BEFORE_RAW))
        listed += [rules.rule_addition(chain, [*match, *trace]) for match in matches]
    if not tracked:
        return listed
    listed.append(_flows(name))
    load = _ct(_CT_ID, 0)
    for hook, where in ((_PREROUTING, "prerouting"), (_OUTPUT, "output")):
        chain = Chain("inet", name, f"{where}-tracked")
        listed.append(_base_chain(chain, hook, _BEHIND_CONNTRACK))
        listed += [rules.rule_addition(chain, [*match, load, expressions.update("flows", 0)]) for match in matches]
        listed.append(rules.rule_addition(chain, [load, expressions.lookup("flows", 0), *trace]))
    return listed


def _matches(signature: Signature) -> Iterator[Sequence[bytes]]:
    """The expressions that let a packet of the signature pass, bare or in VXLAN."""
    for pattern in signature.patterns:
        yield _match(signature.protocol, pattern.offset, pattern)
        for header in _IP_HEADERS:
            yield _match(socket.IPPROTO_UDP, _TUNNEL + header + pattern.offset, pattern)


def _match(protocol: int, offset: int, pattern: Pattern) -> list[bytes]:
    return [
        expressions.protocol(0),
        expressions.equal(0, bytes([protocol])),
        _transport(offset, len(pattern.first), 0),
        _compare(_CMP_GTE, 0, pattern.first),
        _compare(_CMP_LTE, 0, pattern.last),
    ]


def _base_chain(chain: Chain, hook: int, priority: int) -> Message:
    place = nested(4, attribute(1, _U32.pack(hook)) + attribute(2, _S32.pack(priority)))
    payload = _HEADER.pack(FAMILIES["inet"], 0, 0) + _name(1, chain.table) + _name(3, chain.name)
    return Message(str(chain), _NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, payload + place + _name(7, "filter"))


def _flows(table: str) -> Message:
    """A set with the conntrack ids of the connections of matching packets."""
    fields = {3: _U32.pack(_SET_EVAL), 4: _U32.pack(0), 5: _U32.pack(4), 10: _U32.pack(1)}
    payload = _HEADER.pack(FAMILIES["inet"], 0, 0) + _name(1, table) + _name(2, "flows")
    payload += b"".join(attribute(kind, value) for kind, value in fields.items())
    payload += nested(9, attribute(1, _U32.pack(1024)))
    return Message(f"set inet {table} flows", _NEWSET, NLM_F_CREATE | NLM_F_EXCL, payload)


def _transport(offset: int, length: int, register: int) -> bytes:
    fields = ((1, _REGISTER + register), (2, _TRANSPORT_HEADER), (3, offset), (4, length))
    return _expression("payload", *(attribute(kind, _U32.pack(value)) for kind, value in fields))


def _compare(operation: int, register: int, value: bytes) -> bytes:
    fields = attribute(1, _U32.pack(_REGISTER + register)), attribute(2, _U32.pack(operation))
    return _expression("cmp", *fields, nested(3, attribute(1, value)))


def _meta_set(key: int, register: int) -> bytes:
    return _expression("meta", attribute(2, _U32.pack(key)), attribute(3, _U32.pack(_REGISTER + register)))


def _ct(key: int, register: int) -> bytes:
    return _expression("ct", attribute(1, _U32.pack(_REGISTER + register)), attribute(2, _U32.pack(key)))


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(1, _name(1, name) + nested(2, b"".join(fields)))


def _name(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0")
