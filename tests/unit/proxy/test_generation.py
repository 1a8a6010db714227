"""The generation of the ruleset as kernels without nftables, or with another form of it, answer for it."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from netlab.errors import UnsupportedError
from netlab.net import netlink
from netlab.net.programs import generation

_ERROR, _NEWGEN = 2, 10 << 8 | 15
_NFGENMSG = bytes(4)
REFUSED = struct.pack("=i", -errno.EOPNOTSUPP) + bytes(16)
ID = struct.pack("=HH", 8, 1) + struct.pack("!I", 77)
NAME = struct.pack("=HH", 8, 3) + b"nft\0"


class Kernel:
    """A socket that answers every request so."""

    def __init__(self, kind: int, payload: bytes) -> None:
        self._kind, self._payload, self._sequence = kind, payload, 0

    def setsockopt(self, *_: int) -> None: ...

    def close(self) -> None: ...

    def send(self, message: bytes) -> None:
        (self._sequence,) = struct.unpack_from("=I", message, 8)

    def recv(self, _: int) -> bytes:
        return struct.pack("=IHHII", 16 + len(self._payload), self._kind, 0, self._sequence, 0) + self._payload


def asked(monkeypatch: pytest.MonkeyPatch, kind: int, payload: bytes) -> Any:
    monkeypatch.setattr(netlink, "socket", lambda *_: Kernel(kind, payload))
    return generation()


@pytest.mark.parametrize("attributes", [ID, NAME + ID], ids=["alone", "behind another attribute"])
def test_the_number_is_that_of_its_attribute(monkeypatch: pytest.MonkeyPatch, attributes: bytes) -> None:
    assert asked(monkeypatch, _NEWGEN, _NFGENMSG + attributes) == 77


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        (_ERROR, REFUSED, "the kernel does not answer nftables requests: Operation not supported; load the module"),
        (_NEWGEN, _NFGENMSG + NAME, "generation has an unknown form; Linux 5.13 or newer is needed"),
        (_NEWGEN, _NFGENMSG, "generation has an unknown form; Linux 5.13 or newer is needed"),
    ],
    ids=["no nftables", "another attribute", "no attribute"],
)
def test_a_kernel_that_cannot_say_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: int, payload: bytes, said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said):
        asked(monkeypatch, kind, payload)
