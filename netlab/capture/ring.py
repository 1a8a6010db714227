"""Rings of packets that the kernel fills and a process reads in place: TPACKET_V3 (packet_mmap.rst in Linux).

A ring is a number of blocks. The kernel fills one with frames, back to back, and hands it over when it is full or has
waited long enough; who has read it gives it back.
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
from netlab.capture.tagged import Program
from netlab.capture.taps import Tap
from netlab.errors import NetlabError, NotFoundError, UnsupportedError
from netlab.net import syscalls

SNAPLEN = 65_536 + 256
"""Bytes kept of a frame: the largest segment that is not split before the wire (GSO), with the headers of a tunnel."""

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
"""Of struct tpacket_block_desc: status, frames, offset of the first, length, seconds and nanoseconds of the last."""
_FRAME = struct.Struct("=6IH2x4xIH2x8x10xB")
"""struct tpacket3_hdr and, aligned to 16 bytes, struct sockaddr_ll: offset of the next, seconds, nanoseconds, bytes
kept, bytes on the wire, status, offset of the link-layer header, VLAN tag, its protocol, type of packet."""
_FRAME_OVERHEAD = 1024
"""More than the headers of a block and a frame take."""

_SMALLEST_RING, _LARGEST_RING = 64 << 10, 16 << 20
_LARGEST_BLOCK = 256 << 10
_SHORTEST_RETIRE, _LONGEST_RETIRE = 8, 200


class Frame(NamedTuple):
    """A frame as it passed a tap.

    `time` is in nanoseconds since the epoch. `outgoing`: the owner of the interface sent it (on a loopback, where what
    goes out comes in, every frame comes in). `data` begins with the Ethernet header and has what was kept of `length`
    bytes. It is as the kernel had it: a segment may be longer than any MTU (GSO) and its checksum unfinished, for both
    are put off until there is more to cross than memory.
    """

    tap: Tap
    time: int
    outgoing: bool
    data: bytes
    length: int


class Layout(NamedTuple):
    """The size of a ring: of a block in bytes, and how many.

    The kernel hands over a block that is not full after `retire` milliseconds.
    """

    block: int
    blocks: int
    retire: int
    snaplen: int


def layout(taps: int, memory: int, snaplen: int = SNAPLEN) -> Layout:
    """The ring of one of so many taps that have so many bytes of memory together."""
    each = 1 << max(memory // taps, 1).bit_length() - 1  # a power of two
    ring = min(max(each, _SMALLEST_RING, 4 * mmap.PAGESIZE), _LARGEST_RING)
    block = min(ring // 4, _LARGEST_BLOCK)
    # Each ring has a timer, and the kernel is not to be busy with those of a thousand.
    retire = min(max(taps // 5, _SHORTEST_RETIRE), _LONGEST_RETIRE)
    return Layout(block, ring // block, retire, min(snaplen, block - _FRAME_OVERHEAD))


def prepare(taker: socket.socket, interface: str, program: Program, shape: Layout) -> None:
    """Give a socket (AF_PACKET, SOCK_RAW, protocol 0) a ring, which is empty until it is told to `begin`.

    Raises `NotFoundError` when there is no such interface, `UnsupportedError` when it is none of Ethernet or the kernel
    has no such rings, `UsageError` when the program is too long, `NetlabError` when there is no memory.
    """
    with _naming(interface):
        _, hardware = _HARDWARE.unpack(fcntl.ioctl(taker, _SIOCGIFHWADDR, _HARDWARE.pack(interface.encode(), 0)))
    if hardware not in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
        raise UnsupportedError(f"{interface}: not an Ethernet interface; only those can be watched")
    attach(taker, program, shape.snaplen)
    # A frame's size means nothing where frames are back to back, but the numbers must agree.
    request = _REQUEST.pack(shape.block, shape.blocks, shape.block, shape.blocks, shape.retire, 0, 0)
    try:
        if hardware == _ARPHRD_LOOPBACK:  # what leaves comes in again: the kernel would hand out both
            taker.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        taker.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        # It waits for all processors to have seen that (synchronize_net): of many rings, many can wait at once.
        syscalls.set_socket_option(taker.fileno(), _SOL_PACKET, _PACKET_RX_RING, request)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            size = shape.block * shape.blocks >> 10
            raise NetlabError(f"{interface}: no memory for its packets ({size} KiB); watch fewer interfaces") from error
        raise UnsupportedError(f"{interface}: this kernel does not support packet rings: {error.strerror}") from error


def begin(taker: socket.socket, interface: str) -> None:
    """Have what passes the interface put into the prepared ring from now on, as far as the program takes it.

    Raises `NotFoundError` when there is no such interface any more.
    """
    # Not promiscuous: a bridge in that mode gives its host a copy of what it passes from port to port, and what
    # br_netfilter has translated there is then forwarded a second time. Its ports show those frames anyway.
    with _naming(interface):
        taker.bind((interface, _ETH_P_ALL))


@contextlib.contextmanager
def _naming(interface: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise NotFoundError(f"no interface {interface!r} there; `ip link` lists them") from error
        raise NetlabError(f"{interface}: packets cannot be taken there: {error.strerror}") from error


class Ring:
    """A started ring, mapped into this process to be read. In the end `unmap` it, and close its socket."""

    def __init__(self, taker: socket.socket, block: int, blocks: int) -> None:
        """Raises `OSError`."""
        self.socket = taker
        self.received = 0
        """Frames that passed the filter, as of the last `count`; those dropped are among them."""
        self.dropped = 0
        """Frames for which there was no room."""
        self.taken = 0
        """Frames in the blocks handed out by `ready`."""
        self.complete = 0
        """A time (in ns) before which no frame that is still to be handed over was put into the ring."""
        self._block = block
        self._blocks = blocks
        self._next = 0
        self._map = mmap.mmap(taker.fileno(), block * blocks)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("I")  # whose items are written at once, not byte by byte

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
        """Ask the kernel how many frames there were."""
        now = time.time_ns()
        # The kernel begins anew with every answer, and counts what it dropped among what it received.
        received, dropped, _ = _STATISTICS.unpack(
            self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        )
        self.received += received
        self.dropped += dropped
        if self.taken == self.received - self.dropped:
            self.complete = now

    def unmap(self) -> None:
        """No longer read it. What `ready` returned must not be in use."""
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
        if status & _STATUS_VLAN_VALID:  # taken out of the frame, to lie beside it
            protocol = protocol if status & _STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
            data = data[:12] + protocol.to_bytes(2) + tag.to_bytes(2) + data[12:]
            length += 4
        found.append(Frame(tap, seconds * 1_000_000_000 + nanoseconds, kind == _PACKET_OUTGOING, data, length))
        offset += step
    return found


def is_gone(taker: socket.socket) -> bool:
    """Whether the interface that a socket is bound to exists no more, at least not in that namespace."""
    return not taker.getsockname()[0]
