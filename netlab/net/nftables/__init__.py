"""Raw nfnetlink for nftables.

Messages are built by pure functions and sent by `socket.Nfnetlink`. Constants are the kernel's
(include/uapi/linux/netfilter/nf_tables.h) and libnftnl's (udata.h).
"""

from _struct import Struct

from netlab.net.netlink import NFGENMSG, attribute

FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES

_U32 = Struct("!I")
_UDATA_COMMENT = 0


def header(family: str) -> bytes:
    """The header of a message about a table of that family."""
    return NFGENMSG.pack(FAMILIES[family], 0, 0)


def be32(kind: int, value: int) -> bytes:
    """One attribute with a number in network byte order."""
    return attribute(kind, _U32.pack(value))


def packed_comment(text: str) -> bytes:
    """A comment, as user data."""
    comment = text.encode() + b"\0"
    return bytes([_UDATA_COMMENT, len(comment)]) + comment


def comment(userdata: bytes) -> str:
    """The comment in user data; empty if there is none."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""
