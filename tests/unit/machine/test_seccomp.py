"""The filter of system calls, run as the kernel runs it."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from netlab.machine.seccomp import ARCHITECTURES, program

ALLOWED = 0


def answer(name: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """The errno that a call is answered with; ALLOWED if it goes on to the kernel."""
    of = ARCHITECTURES[name]
    data = struct.pack("=iIQ6Q", number, of.audit if architecture is None else architecture, 0, argument, *[0] * 5)
    steps = list(struct.iter_unpack("=HBBI", program(of)))
    accumulator, place = 0, 0
    while True:
        code, jump_true, jump_false, value = steps[place]
        place += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return 0 if value == 0x7FFF0000 else value & 0xFFFF
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x45: bool(accumulator & value)}[code]
            place += jump_true if holds else jump_false


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_call_is_answered_as_the_profile_has_it(name: str) -> None:
    numbers = ARCHITECTURES[name].numbers
    special = {numbers[each] for each in ("clone", "socket", "personality", "clone3")}
    refused = set(numbers.values()) - special
    for number in range(463):
        if number not in special:
            assert answer(name, number) == (errno.EPERM if number in refused else ALLOWED), number
    for newer in (463, 1000, 0x40000000, 0x7FFFFFFF):
        assert answer(name, newer) == errno.ENOSYS


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("call", "argument", "expected"),
    [
        ("clone", 0x3D0F00, ALLOWED),  # a thread
        ("clone", 0x11, ALLOWED),  # fork
        ("clone", 0x10000011, errno.EPERM),  # CLONE_NEWUSER
        ("clone", 0x20011, errno.EPERM),  # CLONE_NEWNS
        ("clone", 0x2000011, errno.EPERM),  # CLONE_NEWCGROUP
        ("clone3", 0, errno.ENOSYS),
        ("socket", 1, ALLOWED),
        ("socket", 17, ALLOWED),
        ("socket", 40, errno.EPERM),
        ("personality", 0, ALLOWED),
        ("personality", 0xFFFFFFFF, ALLOWED),
        ("personality", 0x20008, ALLOWED),
        ("personality", 0x400000, errno.EPERM),
    ],
)
def test_calls_that_are_decided_by_their_argument(name: str, call: str, argument: int, expected: int) -> None:
    assert answer(name, ARCHITECTURES[name].numbers[call], argument) == expected


def test_programs_of_another_kind_of_processor_get_nowhere() -> None:
    assert answer("x86_64", 1, architecture=0x40000003) == errno.ENOSYS


def test_a_filter_fits() -> None:
    """At most 4,096 instructions (BPF_MAXINSNS)."""
    assert all(len(program(each)) // 8 < 300 for each in ARCHITECTURES.values())
    assert os.uname().machine in ARCHITECTURES
