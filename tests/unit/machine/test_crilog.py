"""Containers' logs in the form of CRI."""

from __future__ import annotations

import pytest

from netlab.machine import crilog

BEGIN = b"2026-11-30T02:03:04.000000005Z stdout "
LONG = b"x" * (crilog.LONGEST_LINE + 3)


@pytest.mark.parametrize(
    ("text", "written", "rest"),
    [
        (b"", [], b""),
        (b"one\n", [b"F one"], b""),
        (b"one\n\ntwo\n", [b"F one", b"F ", b"F two"], b""),
        (b"one\r\n", [b"F one\r"], b""),
        (b"one\nand", [b"F one"], b"and"),
        (LONG + b"\n", [b"P " + LONG[:-3], b"F xxx"], b""),
        (LONG, [b"P " + LONG[:-3]], b"xxx"),
    ],
    ids=range(7),
)
def test_what_is_written_is_read_again(text: bytes, written: list[bytes], rest: bytes) -> None:
    lines, left = crilog.lines(text, BEGIN)
    assert lines.splitlines(keepends=False) == [BEGIN + each for each in written] or b"\r" in text
    assert left == rest
    assert crilog.text(lines) + left == text


def test_the_end_of_a_text_is_a_line() -> None:
    assert crilog.text(crilog.last(b"and", BEGIN)) == b"and\n"


def test_earlier_entries_have_smaller_times() -> None:
    earlier, later = (crilog.entry(crilog.last(b"", crilog.head("stderr"))[:-1]) for _ in range(2))
    assert earlier is not None
    assert later is not None
    assert earlier.time < later.time
    assert earlier.stream == b"stderr"
    assert len(earlier.time) == len("2026-11-30T02:03:04.000000005Z")


@pytest.mark.parametrize("line", [b"", b"text", b"2026 stdout"])
def test_what_is_no_entry_is_none(line: bytes) -> None:
    assert crilog.entry(line) is None
