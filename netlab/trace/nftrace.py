"""What nftables does to one probe's packets in one network namespace: every rule they meet, as the kernel reports it.

The packets are recognised by what no translation changes (`Signature`), not by addresses and ports. So the same rules
find them before and after every DNAT and masquerade, inside a tunnel, and on their way back. The table that marks them
belongs to a socket (NFT_TABLE_F_OWNER, Linux 5.12): it goes with the socket, even on kill -9, and `nft flush ruleset`
leaves it alone. Constants are the kernel's (include/uapi/linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from netlab.descriptors import Closing
from netlab.net.multicast import Notices
from netlab.net.netlink import NETLINK_NETFILTER, Message
from netlab.net.nftables import expressions, rules
from netlab.net.nftables.elements import Set
from netlab.net.nftables.rules import Chain
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.nftables.traces import GROUP, Step, decode

TABLE_PREFIX = "netlab-trace-"
"""The prefix of the table's name in every trace; the process id follows."""

_BEFORE_RAW, _BEHIND_CONNTRACK = -350, -199
"""Priorities of chains."""
_RECEIVE_BUFFER = 1 << 20
_MOST_FLOWS = 1024

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


class Tracer(Closing):
    """Watches a probe's packets in the network namespace in which `make` makes sockets.

    Raises `NetlinkError` and `OSError`.

    With `tracked` it also follows the connection: everything that conntrack assigns to it, such as an answer that
    shares no bytes with the question, or an ICMP error. That turns conntrack on, so use it only in namespaces that
    have it anyway. `lost` says that the kernel reported more than was read in time; `table` is the name of the table
    that marks the packets.
    """

    def __init__(self, signature: Signature, make: MakeSocket = socket.socket, *, tracked: bool) -> None:
        self.table = f"{TABLE_PREFIX}{os.getpid()}"
        made = make(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._notices = Notices(NETLINK_NETFILTER, [GROUP], _RECEIVE_BUFFER, made)
        self._owner = Nfnetlink(make(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        try:
            self._owner.commit(_table(self.table, signature, tracked=tracked))
        except BaseException:
            self.close()
            raise

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


def _table(name: str, signature: Signature, *, tracked: bool) -> list[Message]:
    """The messages that make a table that marks the packets of a signature."""
    listed = [rules.table_addition("inet", name, owned=True)]
    trace = [expressions.constant(15, b"\1"), expressions.trace(15)]
    matches = list(_matches(signature))
    for hook, where in ((rules.PREROUTING, "prerouting"), (rules.OUTPUT, "output")):
        chain = Chain("inet", name, f"{where}-raw")
        listed.append(rules.base_chain_addition(chain, hook, _BEFORE_RAW))
        listed += [rules.rule_addition(chain, [*match, *trace]) for match in matches]
    if not tracked:
        return listed
    flows = Set("inet", name, "flows")
    listed.append(rules.number_set_addition(flows, _MOST_FLOWS))
    load = expressions.connection(0)
    for hook, where in ((rules.PREROUTING, "prerouting"), (rules.OUTPUT, "output")):
        chain = Chain("inet", name, f"{where}-tracked")
        listed.append(rules.base_chain_addition(chain, hook, _BEHIND_CONNTRACK))
        listed += [rules.rule_addition(chain, [*match, load, expressions.update(flows.name, 0)]) for match in matches]
        listed.append(rules.rule_addition(chain, [load, expressions.lookup(flows.name, 0), *trace]))
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
        expressions.transport(offset, len(pattern.first), 0),
        expressions.at_least(0, pattern.first),
        expressions.at_most(0, pattern.last),
    ]
