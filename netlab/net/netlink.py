"""Netlink's framing, common to all its protocols: messages, attributes, acknowledgements.

pyroute2 does all of this and more, but importing it takes 200 ms, eight times the budget of a whole CNI ADD. This
module, and those above it that an ADD needs, import C modules only. Constants are the kernel's
(include/uapi/linux/netlink.h).
"""

from __future__ import annotations

from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from _struct import Struct
from errno import EINTR, EOPNOTSUPP
from posix import strerror

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs 12 ms
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_GET_STRICT_CHK = 270, 1, 12
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 10, 11

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
_NLM_F_ACK_TLVS = 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = Struct("=HH")
NFGENMSG = Struct("!BBH")  # of NETLINK_NETFILTER: family, version, resource
_ERRNO = Struct("=i")
_U32 = Struct("=I")
_RECEIVED = 1 << 16
"""Bytes: more than the kernel sends at once (32 KiB), and less than malloc(3) would get from the kernel each time."""
_MOST_DUMPS = 100


class NetlinkError(OSError):
    """The kernel refused a message: `errno`, its text, and (`filename`) what it was about."""

    def __str__(self) -> str:
        remedy = "; see `netlab doctor`" if self.errno == EOPNOTSUPP else ""
        return f"{self.filename}: {self.strerror}{remedy}"


class Message:
    """One request: its type, flags and payload, and its subject in words, for errors."""

    __slots__ = ("flags", "kind", "payload", "subject")

    def __init__(self, subject: str, kind: int, flags: int, payload: bytes) -> None:
        self.subject = subject
        self.kind = kind
        self.flags = flags
        self.payload = payload

    def pack(self, sequence: int, more_flags: int = 0) -> bytes:
        """The bytes on the wire."""
        flags = self.flags | more_flags | NLM_F_REQUEST
        return _HEADER.pack(_HEADER.size + len(self.payload), self.kind, flags, sequence, 0) + self.payload


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, value: bytes) -> bytes:
    """One attribute that contains attributes."""
    return attribute(kind | NLA_F_NESTED, value)


def u32(kind: int, value: int) -> bytes:
    """One attribute with a number in the machine's byte order."""
    return attribute(kind, _U32.pack(value))


def string(kind: int, value: str) -> bytes:
    """One attribute with a string that ends with a zero."""
    return attribute(kind, value.encode() + b"\0")


def number(found: Mapping[int, bytes], kind: int, otherwise: int = 0) -> int:
    """The number in an attribute, in the machine's byte order; if it is not there, `otherwise`."""
    return int(_U32.unpack(found[kind])[0]) if kind in found else otherwise


def text(value: bytes) -> str:
    """The string that an attribute's value is."""
    return value.rstrip(b"\0").decode(errors="replace")


def attributes(payload: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from that offset on: each one's type, and its value without the padding."""
    while offset + 4 <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        yield kind & _TYPE_MASK, payload[offset + 4 : offset + length]
        offset += length + 3 & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of one datagram: type, flags, sequence number and payload."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += length + 3 & ~3


def refusal(flags: int, payload: bytes, subject: str) -> NetlinkError | None:
    """The error in a message of type NLMSG_ERROR; None if it is the acknowledgement of success.

    The kernel's own sentence (extended acknowledgement, Linux 4.12) follows errno's text if there is one.
    """
    code = -_ERRNO.unpack_from(payload)[0]
    if code == 0:
        return None
    reason = strerror(code)
    if flags & _NLM_F_ACK_TLVS:
        # NETLINK_CAP_ACK: only the header of the refused message stands between the errno and the attributes.
        said = dict(attributes(payload, 4 + _HEADER.size)).get(_NLMSGERR_ATTR_MSG, b"")
        if said:
            reason += f": {said.rstrip(bytes(1)).decode(errors='replace').rstrip('.')}"
    return NetlinkError(code, reason, subject)


class Netlink:
    """A socket to a netlink family in the network namespace where it was opened. Close it, or use it in a `with` block.

    `made` is an existing such socket, whose namespace is then used.
    """

    def __init__(self, protocol: int, made: socket | None = None) -> None:
        self._socket = made or socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, request: Message) -> list[bytes]:
        """The payloads that answer a request: one, unless it is a dump. Raises `NetlinkError`.

        A dump during which something changed is repeated, so that the result was true at one moment; after too many
        attempts the error has the errno EINTR.
        """
        for _ in range(_MOST_DUMPS):
            answers, consistent = self._ask(request)
            if consistent:
                return answers
        raise NetlinkError(EINTR, f"it changed during each of {_MOST_DUMPS} attempts to read it", request.subject)

    def _ask(self, request: Message) -> tuple[list[bytes], bool]:
        answers: list[bytes] = []
        consistent = True
        for part, whole in self.parts(request):
            answers += part
            consistent = consistent and whole
        return answers, consistent

    def parts(self, request: Message) -> Iterator[tuple[list[bytes], bool]]:
        """The payloads that answer a request as they come, and whether nothing changed. Raises `NetlinkError`.

        Read all of them, or close the socket.
        """
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._socket.send(request.pack(sequence))
        last = False
        while not last:
            part: list[bytes] = []
            whole = True
            for kind, flags, answered, payload in self._receive():
                if answered != sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == NLMSG_ERROR:
                    error = refusal(flags, payload, request.subject)
                    if error is not None:
                        raise error
                elif kind == NLMSG_DONE:
                    last = True
                else:
                    part.append(payload)
                    last = not request.flags & NLM_F_DUMP
            yield part, whole

    def send(self, *messages: Message, tolerate: int = 0) -> list[bool]:
        """Send the messages at once; the kernel handles them in order. Returns True for each that succeeded.

        The kernel goes on after a failure; the first failure is raised when all are answered. Messages that fail with
        the errno `tolerate` do not count as failures.
        """
        first, self._sequence = self._sequence, self._sequence + len(messages)
        self._socket.send(b"".join([message.pack(first + n, NLM_F_ACK) for n, message in enumerate(messages)]))
        done = [False] * len(messages)
        failure: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < self._sequence:
                    continue
                waiting -= 1
                error = refusal(flags, payload, messages[sequence - first].subject)
                done[sequence - first] = error is None
                if error is not None and error.errno != tolerate and failure is None:
                    failure = error
        if failure is not None:
            raise failure
        return done

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one datagram."""
        return messages(self._socket.recv(_RECEIVED))
