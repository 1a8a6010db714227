"""Rules of policy routing, read. Constants are the kernel's (include/uapi/linux/fib_rules.h)."""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NLM_F_DUMP, Message, Netlink, attributes, number, text

_RTM_GETRULE = 34
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY = 1, 2, 3, 6
_FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 10, 15, 16, 17
_RULE = Struct("=BBBBBxxBI")  # fib_rule_hdr: family, dst len, src len, tos, table, action, flags


class Rule:
    """A rule: what to do (`action`, FR_ACT_*) with packets from `source` to `destination` (None: any).

    Subnets are an address in network byte order and the prefix's length. `incoming` and `outgoing` are names of links;
    what a rule does not have is 0 or empty.
    """

    __slots__ = ("action", "destination", "incoming", "mark", "mask", "outgoing", "priority", "source", "table")

    def __init__(self, payload: bytes) -> None:
        _, to, source, _, table, self.action, _ = _RULE.unpack_from(payload)
        found = dict(attributes(payload, _RULE.size))
        self.priority, self.table = number(found, _FRA_PRIORITY), number(found, _FRA_TABLE, table)
        self.source = (found[_FRA_SRC], source) if _FRA_SRC in found else None
        self.destination = (found[_FRA_DST], to) if _FRA_DST in found else None
        self.incoming, self.outgoing = text(found.get(_FRA_IIFNAME, b"")), text(found.get(_FRA_OIFNAME, b""))
        self.mark, self.mask = number(found, _FRA_FWMARK), number(found, _FRA_FWMASK)


def rules_of(kernel: Netlink, family: int) -> list[Rule]:
    """The rules of `AF_INET` or `AF_INET6`. Raises `NetlinkError` also where the kernel has no policy routing."""
    request = Message("rules", _RTM_GETRULE, NLM_F_DUMP, _RULE.pack(family, 0, 0, 0, 0, 0, 0))
    return [Rule(payload) for payload in kernel.ask(request)]
