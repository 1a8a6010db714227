"""Just enough of SCTP (RFC 9260) to see where a proxy sends it: INIT and INIT ACK, by raw sockets.

What decides is the kernel's connection tracking, which many kernels have without SCTP's sockets. Where there are
sockets, too, the kernel itself would answer what it knows nothing of, with ABORT.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

from netlab.net.addresses import Family

_AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_HEADER = struct.Struct("!HHIL")
"""Source port, destination port, verification tag, checksum."""
_CHUNK = struct.Struct("!BBHIIHHI")
"""Type, flags, length; initiate tag, window, outbound and inbound streams, first sequence number."""
_INIT, _INIT_ACK = 1, 2

_one_at_a_time = threading.Lock()
"""A refusal is told to all raw sockets of a host that are connected to the address, whatever the port."""


def tracked() -> bool:
    """Whether the kernel tracks SCTP, and leaves its packets to raw sockets."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established").exists()
    return False


def answer(family: Family, name: str, address: str, port: int) -> None:
    """Answer every INIT to a port; the tag says by whom (one letter), the window from where it seemed to come."""
    with socket.socket(_AF[family], socket.SOCK_RAW, socket.IPPROTO_SCTP) as server:
        server.bind((address, 0))
        while True:
            packet, (client, *_) = server.recvfrom(2048)
            source_port, destination_port, kind, tag, _ = _parsed(family, packet)
            if (kind, destination_port) == (_INIT, port):
                server.sendto(_packet(port, source_port, tag, _INIT_ACK, ord(name), _digest(client)), (client, 0))


def dial(family: Family, address: str, port: int, patience: float, source: str) -> str:
    """Who answers an INIT, and whom it saw: `NAME CLIENT`; or `reject` or `drop`.

    Nobody being there is no refusal: this socket keeps the kernel from saying so.
    """
    own_port, own_tag = random.randrange(10_000, 60_000), random.getrandbits(32) | 1
    with _one_at_a_time, socket.socket(_AF[family], socket.SOCK_RAW, socket.IPPROTO_SCTP) as client:
        until = time.monotonic() + patience
        if source:
            client.bind((source, 0))
        try:
            client.connect((address, 0))
            # What the sender's own host refuses or drops fails at once.
            with contextlib.suppress(PermissionError):
                client.send(_packet(own_port, port, 0, _INIT, own_tag, 65536))
            while (left := until - time.monotonic()) > 0:
                client.settimeout(left)
                source_port, destination_port, kind, tag, window = _parsed(family, client.recv(2048))
                if (source_port, destination_port, kind) == (port, own_port, _INIT_ACK):
                    return f"{chr(tag)} {window:#x}"
        except TimeoutError:
            return "drop"
        except ConnectionRefusedError:
            return "reject"
    return "drop"


def seen(address: str) -> str:
    """How `dial` tells of a client."""
    return f"{_digest(address):#x}"


def _digest(address: str) -> int:
    return zlib.crc32(ipaddress.ip_address(address).packed)


def _packet(source_port: int, destination_port: int, verification: int, kind: int, tag: int, window: int) -> bytes:
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size, tag, window, 1, 1, tag)
    # The checksum is the one field in the other byte order (RFC 9260, appendix A).
    checksum = _crc32c(_HEADER.pack(source_port, destination_port, verification, 0) + chunk)
    swapped = int.from_bytes(checksum.to_bytes(4, "little"), "big")
    return _HEADER.pack(source_port, destination_port, verification, swapped) + chunk


def _parsed(family: Family, packet: bytes) -> tuple[int, int, int, int, int]:
    """Source port, destination port, type, tag, window of a packet's first chunk."""
    start = (packet[0] & 0xF) * 4 if family == "IPv4" else 0
    source_port, destination_port, *_ = _HEADER.unpack_from(packet, start)
    kind, _, _, tag, window, *_ = _CHUNK.unpack_from(packet, start + _HEADER.size)
    return source_port, destination_port, kind, tag, window


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
