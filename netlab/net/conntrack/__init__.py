"""Raw nfnetlink for connection tracking: entries, events, and the deletion of UDP flows.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from netlab.net.netlink import attributes

NEW, GET, DELETE = (1 << 8 | kind for kind in range(3))  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
TUPLE_ORIG, TUPLE_REPLY, STATUS, ZONE = 1, 2, 3, 18
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_V4_SRC, IP_V4_DST, IP_V6_SRC, IP_V6_DST = 1, 2, 3, 4
PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT = 1, 2, 3
_ICMP_ID, _ICMPV6_ID = 4, 7

Ends = tuple[bytes, int, bytes, int]
"""Source, its port, destination, its port; addresses packed, an ICMP query's identifier for both ports."""


def ends(value: bytes) -> tuple[int, Ends]:
    """The protocol's number and the ends in a tuple (CTA_TUPLE_*)."""
    found = dict(attributes(value))
    ip, transport = dict(attributes(found[TUPLE_IP])), dict(attributes(found[TUPLE_PROTO]))
    query = transport.get(_ICMP_ID) or transport.get(_ICMPV6_ID) or b""
    source = int.from_bytes(transport.get(PROTO_SRC_PORT, query), "big")
    destination = int.from_bytes(transport.get(PROTO_DST_PORT, query), "big")
    if IP_V4_SRC in ip:
        return transport[PROTO_NUM][0], (ip[IP_V4_SRC], source, ip[IP_V4_DST], destination)
    return transport[PROTO_NUM][0], (ip[IP_V6_SRC], source, ip[IP_V6_DST], destination)
