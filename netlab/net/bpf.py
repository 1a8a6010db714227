"""Classic BPF: programs by which the kernel chooses a socket's packets (linux/filter.h)."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

_SO_ATTACH_FILTER = 26


class Instruction(NamedTuple):
    """struct sock_filter (linux/filter.h)."""

    code: int
    jt: int
    jf: int
    k: int


Program = tuple[Instruction, ...]
"""What the kernel runs for each packet; its result is the number of bytes to keep, 0 for none."""


def attach(taker: socket.socket, program: Sequence[Instruction]) -> None:
    """Have the kernel apply a program to a socket's packets from now on. Raises `OSError` if it refuses the program."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    header = struct.pack("HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    taker.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
