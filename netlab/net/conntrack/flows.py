"""Raw ctnetlink for deleting UDP flows: a translated flow keeps its translation until it falls silent.

TCP recovers by itself (a reset, a new source port); a UDP client keeps sending from the same port, each packet renews
the entry, and the rules are never asked again. Constants are the kernel's
(include/uapi/linux/netfilter/nfnetlink_conntrack.h); filters in the kernel came with Linux 5.8.
"""

from __future__ import annotations

from _struct import Struct

from netlab.net.conntrack import (
    DELETE,
    GET,
    IP_V4_DST,
    IP_V4_SRC,
    IP_V6_SRC,
    PROTO_DST_PORT,
    PROTO_NUM,
    PROTO_SRC_PORT,
    TUPLE_IP,
    TUPLE_ORIG,
    TUPLE_PROTO,
    TUPLE_REPLY,
    ZONE,
    ends,
)
from netlab.net.netlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    Netlink,
    attribute,
    attributes,
    nested,
    refusal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs 12 ms
    from collections.abc import Iterator, Sequence

_ID, _FILTER = 12, 25
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_IP_SRC, _BY_IP_DST, _BY_PROTO_NUM, _BY_PROTO_SRC_PORT, _BY_PROTO_DST_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 5
_UDP = 17
_U32 = Struct("=I")
_ENOENT = 2
_AF_INET = 2
_BATCH = 150
"""Messages that are sent at once: all their refusals fit into a socket's buffer."""


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
            found = dict(attributes(payload, NFGENMSG.size))
            _, (_, _, address, port) = ends(found[TUPLE_ORIG])
            self.sent_to = address + port.to_bytes(2, "big")
            _, (address, port, _, _) = ends(found[TUPLE_REPLY])
            self.answers = address + port.to_bytes(2, "big")

    def deletion(self) -> Message:
        """The message that deletes it."""
        identity = b""
        # With its id: another flow with the same addresses and ports may have taken its place.
        for kind, value in attributes(self._payload, NFGENMSG.size):
            if kind == TUPLE_ORIG:
                identity += nested(TUPLE_ORIG, value)
            elif kind in (_ID, ZONE):
                identity += attribute(kind, value)
        return Message("UDP flow", DELETE, 0, NFGENMSG.pack(self._payload[0], 0, 0) + identity)


def _beginning(kind: int, source: int, address: int) -> bytes:
    """How the tuple of a UDP flow begins: its own header, that of its addresses, and that of the first address."""
    ip = attribute(source, bytes(address)) * 2
    transport = attribute(PROTO_NUM, bytes(1)) + attribute(PROTO_SRC_PORT, bytes(2)) * 2
    return nested(kind, nested(TUPLE_IP, ip) + nested(TUPLE_PROTO, transport))[:12]


_ORIG_V4, _REPLY_V4 = (_beginning(kind, IP_V4_SRC, 4) for kind in (TUPLE_ORIG, TUPLE_REPLY))
_ORIG_V6, _REPLY_V6 = (_beginning(kind, IP_V6_SRC, 16) for kind in (TUPLE_ORIG, TUPLE_REPLY))


class Conntrack(Netlink):
    """A socket to the connection tracking in the network namespace where it was opened. Raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

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
        transport, orig = attribute(PROTO_NUM, bytes([_UDP])), _BY_PROTO_NUM
        if port:
            transport += attribute(PROTO_DST_PORT, port.to_bytes(2, "big"))
            orig |= _BY_PROTO_DST_PORT
        original = nested(TUPLE_PROTO, transport)
        # By addresses of IPv4 alone: of IPv6 the kernel gives those that differ (ctnetlink_filter_match_tuple takes
        # ipv6_addr_cmp's answer the wrong way round, as of Linux 6.18).
        if len(address) == 4:
            original += nested(TUPLE_IP, attribute(IP_V4_DST, address))
            orig |= _BY_IP_DST
        payload, reply = nested(TUPLE_ORIG, original), 0
        if answers:
            transport = attribute(PROTO_NUM, bytes([_UDP])) + attribute(PROTO_SRC_PORT, answers[-2:])
            replied = nested(TUPLE_PROTO, transport)
            reply = _BY_PROTO_NUM | _BY_PROTO_SRC_PORT
            if len(answers) == 6:
                replied += nested(TUPLE_IP, attribute(IP_V4_SRC, answers[:-2]))
                reply |= _BY_IP_SRC
            payload += nested(TUPLE_REPLY, replied)
        criteria = attribute(_FILTER_ORIG_FLAGS, _U32.pack(orig)) + attribute(_FILTER_REPLY_FLAGS, _U32.pack(reply))
        payload = NFGENMSG.pack(family, 0, 0) + payload + nested(_FILTER, criteria)
        return self._parts(Message("UDP flows", GET, NLM_F_DUMP, payload))

    def _parts(self, request: Message) -> Iterator[list[bytes]]:
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._socket.send(request.pack(sequence))
        while True:
            part: list[bytes] = []
            for kind, flags, answered, payload in self._receive():
                if answered != sequence:
                    continue
                if kind == NLMSG_DONE:
                    yield part
                    return
                if kind == NLMSG_ERROR:
                    error = refusal(flags, payload, request.subject)
                    if error is not None:
                        raise error
                else:
                    part.append(payload)
            yield part

    def forget(self, flows: Sequence[Flow]) -> int:
        """Delete flows, which may have ended in the meantime; how many had not."""
        forgotten = 0
        for start in range(0, len(flows), _BATCH):
            forgotten += self._forget(flows[start : start + _BATCH])
        return forgotten

    def _forget(self, flows: Sequence[Flow]) -> int:
        first, last = self._sequence, self._sequence + len(flows) - 1
        self._sequence = last + 1
        requests = [flow.deletion() for flow in flows]
        self._socket.send(
            b"".join(
                request.pack(sequence, NLM_F_ACK if sequence == last else 0)
                for sequence, request in enumerate(requests, first)
            )
        )
        ended, failed = 0, None
        while True:
            for kind, flags, answered, payload in self._receive():
                if kind != NLMSG_ERROR or answered < first:
                    continue
                error = refusal(flags, payload, requests[answered - first].subject)
                if error is not None:
                    ended += 1
                    if error.errno != _ENOENT:
                        failed = failed or error
                if answered == last:
                    if failed is not None:
                        raise failed
                    return len(flows) - ended
