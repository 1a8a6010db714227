"""One real packet and its answer: a TCP connection, a datagram or an echo request that differs from all others.

It is identified by what no translation changes: the initial sequence number of a TCP connection (chosen by TCP_REPAIR,
tcp(7)), or a word in the payload. See `netlab.trace.nftrace.Signature`.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
import time
from typing import Literal, NamedTuple

from netlab.descriptors import Closing
from netlab.net.addresses import socket_family
from netlab.trace.nftrace import MakeSocket, Pattern, Signature
from netlab.trace.state import Protocol

Outcome = Literal["answered", "refused", "failed", "silent"]
"""Data or a handshake came; a closed port or a rule rejected it; the kernel failed, and says why; nothing came."""

# linux/tcp.h, linux/in.h, linux/in6.h: Python 3.11 has no names for them.
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_TCP_SEND_QUEUE = 2
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_ICMP: dict[int, tuple[int, int, int]] = {socket.AF_INET: (1, 8, 0), socket.AF_INET6: (58, 128, 129)}
"""By family: the protocol number, and the types of an echo request and its reply."""
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_ECHO = struct.Struct("!BBHHH")
_TRANSPORT_HEADER = 8
"""The length of a UDP header, and of an echo's."""
_COMMAND = b"echo "
"""agnhost's netexec answers this command with the rest of the line."""
_WORD = 8
_POLL = 0.005
_LARGEST = 1 << 16


class Result(NamedTuple):
    """How a probe ended for its sender; `reason` is the kernel's, if it gives one."""

    outcome: Outcome
    reason: str = ""


class Sender(Closing):
    """Sends one probe to an address and port, from the namespace in which `make` makes sockets; waits for the answer.

    `size` is the length of the IP packet in bytes, including headers; such a packet may not be fragmented on its way.
    0 is the smallest possible. The probe of TCP is the SYN, which has a fixed size. Raises `OSError` when no such
    socket can be made.
    """

    def __init__(
        self,
        protocol: Protocol,
        address: str,
        port: int = 0,
        size: int = 0,
        make: MakeSocket = socket.socket,
    ) -> None:
        self.family = socket_family(address)
        self.protocol = protocol
        self.destination = (address, port)
        self._word = secrets.token_hex(_WORD // 2).encode()
        self._sequence = 1 << 30 | secrets.randbits(29)
        self._number = _ICMP[self.family][0] if protocol == "icmp" else _NUMBERS[protocol]
        self._payload = size - (40 if self.family == socket.AF_INET6 else 20) - _TRANSPORT_HEADER if size else 0
        self.source_port = 0
        """For ICMP, the identifier of the echo."""
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}[protocol]
        self._socket = make(self.family, kind, self._number if protocol == "icmp" else 0)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        if self.protocol == "tcp":
            for option, value in (
                (_TCP_REPAIR, 1),
                (_TCP_REPAIR_QUEUE, _TCP_SEND_QUEUE),
                (_TCP_QUEUE_SEQ, self._sequence),
                (_TCP_REPAIR, 0),
            ):
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
        elif self._payload and self.family == socket.AF_INET:
            # Ignore the path MTU that an earlier probe discovered, or the packet would not be sent at all.
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        elif self._payload:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        if self.protocol == "icmp":
            self.source_port = int.from_bytes(self._word[:2], "big")
        else:
            self._socket.bind(("", 0))
            self.source_port = self._socket.getsockname()[1]

    def close(self) -> None:
        """Close the socket, and so end an open connection in the normal way."""
        self._socket.close()

    @property
    def signature(self) -> Signature:
        """What distinguishes the probe and its answers from all other packets."""
        if self.protocol == "tcp":
            first = self._sequence.to_bytes(4, "big")
            # The SYN and the FIN each take a sequence number.
            last = (self._sequence + 2).to_bytes(4, "big")
            return Signature(self._number, (Pattern(4, first, last), Pattern(8, first, last)))
        begins = (
            (_TRANSPORT_HEADER,) if self.protocol == "icmp" else (_TRANSPORT_HEADER + len(_COMMAND), _TRANSPORT_HEADER)
        )
        return Signature(self._number, tuple(Pattern(begin, self._word, self._word) for begin in begins))

    @property
    def source(self) -> str:
        """The address that it was sent from; before that, `0.0.0.0` or `::`."""
        return str(self._socket.getsockname()[0])

    def send(self, timeout: float) -> Result:
        """Send it, and wait at most `timeout` seconds for the answer."""
        self._socket.settimeout(timeout)
        ask = {"tcp": self._connect, "udp": self._datagram, "icmp": self._echo}[self.protocol]
        try:
            return ask()
        except ConnectionRefusedError:
            return Result("refused", os.strerror(errno.ECONNREFUSED))
        except TimeoutError:
            return Result("silent")
        except OSError as error:
            return Result("failed", os.strerror(error.errno) if error.errno else str(error))

    def _connect(self) -> Result:
        self._socket.connect(self.destination)
        return Result("answered")

    def _datagram(self) -> Result:
        self._socket.connect(self.destination)
        self._socket.send((_COMMAND + self._word).ljust(self._payload, b"."))
        self._socket.recv(_LARGEST)
        return Result("answered")

    def _echo(self) -> Result:
        deadline = time.monotonic() + (self._socket.gettimeout() or 0)
        _, request, reply = _ICMP[self.family]
        data = self._word.ljust(self._payload, b".")
        packet = _ECHO.pack(request, 0, 0, self.source_port, 1) + data
        if self.family == socket.AF_INET:  # for ICMPv6 the kernel computes it (RFC 3542, 3.1)
            packet = _ECHO.pack(request, 0, _checksum(packet), self.source_port, 1) + data
        self._socket.connect((self.destination[0], 0))
        self._socket.send(packet)
        while True:
            received = self._socket.recv(_LARGEST)
            if self.family == socket.AF_INET:
                received = received[(received[0] & 0xF) * 4 :]
            if received[:1] == bytes([reply]) and received[_TRANSPORT_HEADER:][:_WORD] == self._word:
                return Result("answered")
            left = deadline - time.monotonic()
            if left <= 0:
                return Result("silent")
            self._socket.settimeout(left)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
