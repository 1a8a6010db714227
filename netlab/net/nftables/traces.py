"""What the kernel says of packets that nftables traces (`meta nftrace set 1`): every rule that they meet."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Literal, NamedTuple

from netlab.net.netlink import NFGENMSG, attributes, messages, text
from netlab.net.nftables import FAMILIES, SUBSYSTEM
from netlab.net.nftables.elements import Verdict, verdict

GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = SUBSYSTEM << 8 | 17
_TABLE, _CHAIN, _RULE_HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK_HEADER, _TRANSPORT_HEADER, _IIF, _OIF, _POLICY = 8, 9, 10, 12, 16
_KINDS: dict[int, Literal["policy", "return", "rule"]] = {1: "policy", 2: "return", 3: "rule"}
_FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
_U32, _S32, _U64 = Struct("!I"), Struct("!i"), Struct("!Q")


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


def decode(data: bytes) -> Iterator[Step]:
    """The steps in what a socket of group NFNLGRP_NFTRACE received."""
    return (_step(payload) for kind, _, _, payload in messages(data) if kind == _TRACE)


def _step(payload: bytes) -> Step:
    found = dict(attributes(payload, NFGENMSG.size))
    return Step(
        # The table's family; attribute NFPROTO (15) has the packet's.
        _FAMILY_NAMES.get(payload[0], str(payload[0])),
        text(found.get(_TABLE, b"")),
        text(found.get(_CHAIN, b"")),
        _U64.unpack(found[_RULE_HANDLE])[0] if _RULE_HANDLE in found else 0,
        _KINDS[_U32.unpack(found[_TYPE])[0]],
        verdict(found[_VERDICT]) if _VERDICT in found else Verdict(_S32.unpack(found[_POLICY])[0]),
        _U32.unpack(found[_ID])[0],
        found.get(_NETWORK_HEADER, b""),
        found.get(_TRANSPORT_HEADER, b""),
        _U32.unpack(found.get(_IIF, bytes(4)))[0],
        _U32.unpack(found.get(_OIF, bytes(4)))[0],
    )
