"""Raw ctnetlink for deleting UDP flows: a translated flow keeps its translation until it falls silent.

TCP recovers by itself (a reset, a new source port); a UDP client keeps sending from the same port, each packet renews
the entry, and the rules are never asked again. Constants are the kernel's
(include/uapi/linux/netfilter/nfnetlink_conntrack.h); filters in the kernel came with Linux 5.8.
"""

from __future__ import annotations

from errno import ENOENT

from netlab.net import conntrack as ct
from netlab.net import netlink as nl

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs 12 ms
    from collections.abc import Iterator, Sequence

_ID, _FILTER = 12, 25
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_IP_SRC, _BY_IP_DST, _BY_PROTO_NUM, _BY_PROTO_SRC_PORT, _BY_PROTO_DST_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 5
_UDP = 17
_AF_INET = 2
_BATCH = 150
"""Messages that are sent at once: all their answers fit into a socket's buffer."""


class Flow:
    """A flow that the kernel tracks.

    `sent_to` is the address and port that its client sends to, `answers` those that the answers come from before they
    are translated: packed, in network byte order, one after the other.
    """

    __slots__ = ("_payload", "answers", "sent_to")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        # The kernel writes both tuples first and always alike: parsing attributes takes ten times as long.
        if payload[4:16] == _ORIG_V4 and payload[56:68] == _REPLY_V4:
            self.sent_to = payload[24:28] + payload[52:54]
            self.answers = payload[68:72] + payload[96:98]
        elif payload[4:16] == _ORIG_V6 and payload[80:92] == _REPLY_V6:
            self.sent_to = payload[36:52] + payload[76:78]
            self.answers = payload[92:108] + payload[144:146]
        else:
            found = dict(nl.attributes(payload, nl.NFGENMSG.size))
            _, (_, _, address, port) = ct.ends(found[ct.TUPLE_ORIG])
            self.sent_to = address + port.to_bytes(2, "big")
            _, (address, port, _, _) = ct.ends(found[ct.TUPLE_REPLY])
            self.answers = address + port.to_bytes(2, "big")

    def deletion(self) -> nl.Message:
        """The message that deletes it."""
        identity = b""
        # With its id: another flow with the same addresses and ports may have taken its place.
        for kind, value in nl.attributes(self._payload, nl.NFGENMSG.size):
            if kind == ct.TUPLE_ORIG:
                identity += nl.nested(ct.TUPLE_ORIG, value)
            elif kind in (_ID, ct.ZONE):
                identity += nl.attribute(kind, value)
        return nl.Message("UDP flow", ct.DELETE, 0, nl.NFGENMSG.pack(self._payload[0], 0, 0) + identity)


def _beginning(kind: int, source: int, address: int) -> bytes:
    """How the tuple of a UDP flow begins: its own header, that of its addresses, and that of the first address."""
    ip = nl.attribute(source, bytes(address)) * 2
    transport = nl.attribute(ct.PROTO_NUM, bytes(1)) + nl.attribute(ct.PROTO_SRC_PORT, bytes(2)) * 2
    return nl.nested(kind, nl.nested(ct.TUPLE_IP, ip) + nl.nested(ct.TUPLE_PROTO, transport))[:12]


_ORIG_V4, _REPLY_V4 = (_beginning(kind, ct.IP_V4_SRC, 4) for kind in (ct.TUPLE_ORIG, ct.TUPLE_REPLY))
_ORIG_V6, _REPLY_V6 = (_beginning(kind, ct.IP_V6_SRC, 16) for kind in (ct.TUPLE_ORIG, ct.TUPLE_REPLY))


class Conntrack(nl.Netlink):
    """A socket to the connection tracking in the network namespace where it was opened. Raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(nl.NETLINK_NETFILTER)

    def udp_flows(self, family: int, port: int) -> list[Flow]:
        """The UDP flows of a family (AF_INET, AF_INET6) whose clients sent to that port."""
        return [Flow(payload) for part in self.udp_parts(family, port=port) for payload in part]

    def udp_parts(
        self, family: int, address: bytes = b"", port: int = 0, answers: bytes = b""
    ) -> Iterator[list[bytes]]:
        """The UDP flows of a family, each as what `Flow` takes, in parts as the kernel gives them: 200 at most or so.

        The kernel looks for those sent to that address (packed) and port, and answered from there (`Flow.answers`);
        what is empty or 0 may be anything. Flows to or from other IPv6 addresses may be among them. Between two parts
        flows may come and go. Read all of them, or close the socket.
        """
        transport, orig = nl.attribute(ct.PROTO_NUM, bytes([_UDP])), _BY_PROTO_NUM
        if port:
            transport += nl.attribute(ct.PROTO_DST_PORT, port.to_bytes(2, "big"))
            orig |= _BY_PROTO_DST_PORT
        original = nl.nested(ct.TUPLE_PROTO, transport)
        # By addresses of IPv4 alone: of IPv6 the kernel gives those that differ (ctnetlink_filter_match_tuple takes
        # ipv6_addr_cmp's answer the wrong way round, as of Linux 6.18).
        if len(address) == 4:
            original += nl.nested(ct.TUPLE_IP, nl.attribute(ct.IP_V4_DST, address))
            orig |= _BY_IP_DST
        payload, reply = nl.nested(ct.TUPLE_ORIG, original), 0
        if answers:
            transport = nl.attribute(ct.PROTO_NUM, bytes([_UDP])) + nl.attribute(ct.PROTO_SRC_PORT, answers[-2:])
            replied = nl.nested(ct.TUPLE_PROTO, transport)
            reply = _BY_PROTO_NUM | _BY_PROTO_SRC_PORT
            if len(answers) == 6:
                replied += nl.nested(ct.TUPLE_IP, nl.attribute(ct.IP_V4_SRC, answers[:-2]))
                reply |= _BY_IP_SRC
            payload += nl.nested(ct.TUPLE_REPLY, replied)
        criteria = nl.u32(_FILTER_ORIG_FLAGS, orig) + nl.u32(_FILTER_REPLY_FLAGS, reply)
        payload = nl.NFGENMSG.pack(family, 0, 0) + payload + nl.nested(_FILTER, criteria)
        return (part for part, _ in self.parts(nl.Message("UDP flows", ct.GET, nl.NLM_F_DUMP, payload)))

    def forget(self, flows: Sequence[Flow]) -> int:
        """Delete flows, which may have ended in the meantime; how many had not."""
        requests = [flow.deletion() for flow in flows]
        return sum(
            sum(self.send(*requests[start : start + _BATCH], tolerate=ENOENT))
            for start in range(0, len(requests), _BATCH)
        )
