"""Raw nfnetlink for connection tracking: entries, events, and the deletion of UDP flows.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

NEW, GET, DELETE = (1 << 8 | kind for kind in range(3))  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
TUPLE_ORIG, TUPLE_REPLY, STATUS, ZONE = 1, 2, 3, 18
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_V4_SRC, IP_V4_DST, IP_V6_SRC, IP_V6_DST = 1, 2, 3, 4
PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT = 1, 2, 3
