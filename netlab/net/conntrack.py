"""Raw ctnetlink for deleting UDP flows: a translated flow keeps its translation until it falls silent.

TCP recovers by itself (a reset, a new source port); a UDP client keeps sending from the same port, each packet renews
the entry, and the rules are never asked again. Constants are the kernel's
(include/uapi/linux/netfilter/nfnetlink_conntrack.h); filters in the kernel came with Linux 5.8.
"""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NLM_F_DUMP, Message, Netlink, NetlinkError, attribute, attributes, nested

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_DST, _IP_V6_DST = 2, 4
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_PROTO_NUM, _BY_PROTO_DST_PORT = 1 << 3, 1 << 5
_UDP = 17
_HEADER = Struct("!BBH")  # nfgenmsg: family, version, resource
_U32 = Struct("=I")
_ENOENT = 2


class Flow:
    """A flow that the kernel tracks: `destination` is the address that its client sent to, in network byte order."""

    __slots__ = ("_family", "_identity", "destination")

    def __init__(self, payload: bytes) -> None:
        self._family = payload[0]
        found = dict(attributes(payload, _HEADER.size))
        ip = dict(attributes(dict(attributes(found[_TUPLE_ORIG]))[_TUPLE_IP]))
        self.destination = ip.get(_IP_V4_DST) or ip[_IP_V6_DST]
        # With its id: another flow with the same addresses and ports may have taken its place.
        self._identity = nested(_TUPLE_ORIG, found[_TUPLE_ORIG]) + attribute(_ID, found[_ID])
        if _ZONE in found:
            self._identity += attribute(_ZONE, found[_ZONE])

    def deletion(self) -> Message:
        """The message that deletes it."""
        return Message("UDP flow", _DELETE, 0, _HEADER.pack(self._family, 0, 0) + self._identity)


class Conntrack(Netlink):
    """A socket to the connection tracking in the network namespace where it was opened. Raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)

    def udp_flows(self, family: int, port: int) -> list[Flow]:
        """The UDP flows of a family (AF_INET, AF_INET6) whose clients sent to that port."""
        wanted = attribute(_PROTO_NUM, bytes([_UDP])) + attribute(_PROTO_DST_PORT, port.to_bytes(2, "big"))
        criteria = attribute(_FILTER_ORIG_FLAGS, _U32.pack(_BY_PROTO_NUM | _BY_PROTO_DST_PORT))
        criteria += attribute(_FILTER_REPLY_FLAGS, _U32.pack(0))
        payload = _HEADER.pack(family, 0, 0) + nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, wanted))
        request = Message(f"UDP flows to port {port}", _GET, NLM_F_DUMP, payload + nested(_FILTER, criteria))
        return [Flow(answer) for answer in self.ask(request)]

    def forget(self, flow: Flow) -> None:
        """Delete a flow, which may have ended in the meantime."""
        try:
            self.order(flow.deletion())
        except NetlinkError as error:
            if error.errno != _ENOENT:
                raise
