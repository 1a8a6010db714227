"""Rings of packets that the kernel fills and a process reads in place: TPACKET_V3 (packet_mmap.rst in Linux).

A ring consists of blocks. The kernel fills a block with frames, back to back, and hands it over when it is full or has
waited long enough; the reader gives it back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from netlab.capture.filters import attach
from netlab.capture.taps import Tap
from netlab.errors import NetlabError, NotFoundError, UnsupportedError
from netlab.net import syscalls
from netlab.net.bpf import Program

SNAPLEN = 65_536 + 256
"""Bytes kept of a frame: the largest segment before GSO splits it, with the headers of a tunnel."""

# linux/if_packet.h, linux/if_ether.h, linux/if_arp.h, linux/sockios.h
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
_TPACKET_V3 = 2
_PACKET_OUTGOING = 4
_STATUS_USER, _STATUS_VLAN_VALID, _STATUS_VLAN_TPID_VALID = 1, 1 << 4, 1 << 6
_ETH_P_ALL, _ETH_P_8021Q = 0x0003, 0x8100
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_SIOCGIFHWADDR = 0x8927

_REQUEST = struct.Struct("=7I")  # tpacket_req3
_STATISTICS = struct.Struct("=3I")  # tpacket_stats_v3
_HARDWARE = struct.Struct("=16sH22x")  # ifreq with a hardware address
_BLOCK = struct.Struct("=8x4I16x2I")
"""From struct tpacket_block_desc: status, frames, offset of the first, length, seconds and nanoseconds of the last."""
_FRAME = struct.Struct("=6IH2x4xIH2x8x10xB")
"""struct tpacket3_hdr and, aligned to 16 bytes, struct sockaddr_ll: offset of the next, seconds, nanoseconds, bytes
kept, bytes on the wire, status, offset of the link-layer header, VLAN tag, its protocol, type of packet."""
_FRAME_OVERHEAD = 1024
"""More than the size of the headers of a block and a frame."""

_SMALLEST_RING, _LARGEST_RING = 64 << 10, 16 << 20
_LARGEST_BLOCK = 256 << 10
_SHORTEST_RETIRE, _LONGEST_RETIRE = 8, 200


class Frame(NamedTuple):
    """A frame as it passed a tap.

    `time` is in nanoseconds since the epoch. `outgoing`: the owner of the interface sent it (on a loopback, every frame
    counts as incoming). `data` begins with the Ethernet header and has the bytes kept of `length`. It is as the kernel
    has it in memory: a segment may be longer than any MTU (GSO) and its checksum incomplete, because both are left to
    real hardware.
    """

    tap: Tap
    time: int
    outgoing: bool
    data: bytes
    length: int


class Layout(NamedTuple):
    """The size of a ring: bytes per block, and the number of blocks.

    After `retire` milliseconds the kernel hands over a block even if it is not full.
    """

    block: int
    blocks: int
    retire: int
    snaplen: int


def layout(taps: int, memory: int, snaplen: int = SNAPLEN) -> Layout:
    """The layout of each tap's ring, for so many taps that share so many bytes of memory."""
    each = 1 << max(memory // taps, 1).bit_length() - 1  # a power of two
    ring = min(max(each, _SMALLEST_RING, 4 * mmap.PAGESIZE), _LARGEST_RING)
    block = min(ring // 4, _LARGEST_BLOCK)
    # Each ring has a timer, and a thousand of them must not keep the kernel busy.
    retire = min(max(taps // 5, _SHORTEST_RETIRE), _LONGEST_RETIRE)
    return Layout(block, ring // block, retire, min(snaplen, block - _FRAME_OVERHEAD))


def prepare(taker: socket.socket, interface: str, program: Program, shape: Layout) -> None:
    """Give a socket (AF_PACKET, SOCK_RAW, protocol 0) a ring, which stays empty until `begin`.

    Raises `NotFoundError` if there is no such interface, `UnsupportedError` if it is not Ethernet or the kernel has no
    such rings, `UsageError` if the program is too long, `NetlabError` if there is no memory.
    """
    with _naming(interface):
        _, hardware = _HARDWARE.unpack(fcntl.ioctl(taker, _SIOCGIFHWADDR, _HARDWARE.pack(interface.encode(), 0)))
    if hardware not in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
        raise UnsupportedError(f"{interface}: not an Ethernet interface; only those can be watched")
    attach(taker, program, shape.snaplen)
    # The frame size has no meaning in TPACKET_V3, but the numbers must be consistent.
    request = _REQUEST.pack(shape.block, shape.blocks, shape.block, shape.blocks, shape.retire, 0, 0)
    try:
        if hardware == _ARPHRD_LOOPBACK:  # the kernel would deliver each frame twice, outgoing and incoming
            taker.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        taker.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        # The kernel waits for all processors (synchronize_net). Many rings can wait at the same time.
        syscalls.set_socket_option(taker.fileno(), _SOL_PACKET, _PACKET_RX_RING, request)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            size = shape.block * shape.blocks >> 10
            raise NetlabError(f"{interface}: no memory for its packets ({size} KiB); watch fewer interfaces") from error
        raise UnsupportedError(f"{interface}: this kernel does not support packet rings: {error.strerror}") from error


def begin(taker: socket.socket, interface: str) -> None:
    """Start the prepared ring: from now on it gets the interface's frames that the program accepts.

    Raises `NotFoundError` if the interface no longer exists.
    """
    # Not promiscuous: a bridge in that mode gives its host a copy of each frame that it passes from port to port, and
    # the host would forward those that br_netfilter has translated a second time. The ports show these frames anyway.
    with _naming(interface):
        taker.bind((interface, _ETH_P_ALL))


@contextlib.contextmanager
def _naming(interface: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise NotFoundError(f"no interface {interface!r} there; `ip link` lists them") from error
        raise NetlabError(f"{interface}: packets cannot be captured there: {error.strerror}") from error


class Ring:
    """A started ring, mapped into this process for reading. At the end, `unmap` it and close its socket."""

    def __init__(self, taker: socket.socket, block: int, blocks: int) -> None:
        """Raises `OSError`."""
        self.socket = taker
        self.received = 0
        """Frames that passed the filter, as of the last `count`, including dropped ones."""
        self.dropped = 0
        """Frames that were dropped for lack of room."""
        self.taken = 0
        """Frames in the blocks that `ready` has returned."""
        self.complete = 0
        """A time (in ns): all frames that entered the ring before it have been handed over."""
        self._block = block
        self._blocks = blocks
        self._next = 0
        self._map = mmap.mmap(taker.fileno(), block * blocks)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("I")  # a word is written at once, not byte by byte

    def ready(self) -> list[memoryview]:
        """The blocks that the kernel has handed over since the last `release`, in order."""
        found: list[memoryview] = []
        while len(found) < self._blocks:
            begin = (self._next + len(found)) % self._blocks * self._block
            status, frames, _, length, seconds, nanoseconds = _BLOCK.unpack_from(self._bytes, begin)
            if not status & _STATUS_USER:
                break
            self.taken += frames
            self.complete = seconds * 1_000_000_000 + nanoseconds
            found.append(self._bytes[begin : begin + length])
        return found

    def release(self, count: int) -> None:
        """Give that many blocks back, the oldest first."""
        for _ in range(count):
            self._words[(self._next * self._block + _BLOCK_STATUS) // 4] = 0
            self._next = (self._next + 1) % self._blocks

    def count(self) -> None:
        """Get the numbers of frames from the kernel."""
        now = time.time_ns()
        # The kernel resets its counters with every answer, and includes dropped frames in the received ones.
        received, dropped, _ = _STATISTICS.unpack(
            self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        )
        self.received += received
        self.dropped += dropped
        if self.taken == self.received - self.dropped:
            self.complete = now

    def unmap(self) -> None:
        """Stop reading. Blocks that `ready` returned must no longer be in use."""
        self._words.release()
        self._bytes.release()
        self._map.close()


_BLOCK_STATUS = 8


def frames(block: bytes, tap: Tap) -> list[Frame]:
    """The frames of a block."""
    _, count, offset, *_ = _BLOCK.unpack_from(block)
    found: list[Frame] = []
    for _ in range(count):
        step, seconds, nanoseconds, kept, length, status, start, tag, protocol, kind = _FRAME.unpack_from(block, offset)
        start += offset
        data = block[start : start + kept]
        if status & _STATUS_VLAN_VALID:  # the kernel took the tag out of the frame
            protocol = protocol if status & _STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
            data = data[:12] + protocol.to_bytes(2) + tag.to_bytes(2) + data[12:]
            length += 4
        found.append(Frame(tap, seconds * 1_000_000_000 + nanoseconds, kind == _PACKET_OUTGOING, data, length))
        offset += step
    return found


def is_gone(taker: socket.socket) -> bool:
    """Whether the interface that a socket is bound to no longer exists in that namespace."""
    return not taker.getsockname()[0]
