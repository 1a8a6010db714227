"""What a netlink socket makes of answers that the kernel gives at its worst moments."""

from __future__ import annotations

import errno
import itertools
import struct
from typing import Any

import pytest

from netlab.net.netlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, Message, Netlink, NetlinkError

_LINK = 16
DUMP = Message("the links", 18, NLM_F_DUMP, b"")


class Kernel:
    """A socket at which every dump is one message, and is interrupted so many times."""

    def __init__(self, interruptions: int) -> None:
        self.interruptions = interruptions
        self.dumps = itertools.count(1)
        self._sequence = 0

    def setsockopt(self, *_: int) -> None: ...

    def send(self, message: bytes) -> None:
        (self._sequence,) = struct.unpack_from("=I", message, 8)

    def recv(self, _: int) -> bytes:
        dump = next(self.dumps)
        flags = NLM_F_DUMP_INTR if dump <= self.interruptions else 0
        one = struct.pack("=IHHIII", 20, _LINK, 0, self._sequence, 0, dump)
        return one + struct.pack("=IHHIII", 20, NLMSG_DONE, flags, self._sequence, 0, 0)


def netlink(kernel: Any) -> Netlink:
    return Netlink(0, made=kernel)


def test_a_dump_that_was_interrupted_is_taken_again_and_its_first_answers_are_forgotten() -> None:
    assert netlink(Kernel(interruptions=2)).ask(DUMP) == [struct.pack("=I", 3)]


def test_a_dump_that_is_always_interrupted_ends_with_an_error_that_names_it() -> None:
    with pytest.raises(NetlinkError, match="the links: it changed during each of 100 attempts") as raised:
        netlink(Kernel(interruptions=10**9)).ask(DUMP)
    assert raised.value.errno == errno.EINTR
