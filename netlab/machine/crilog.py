"""The form of containers' logs: that of CRI, which kubelet, containerd and CRI-O share.

2026-11-30T02:03:04.123456789Z stdout F a whole line
2026-11-30T02:03:04.123456789Z stderr P a part of one that goes on
"""

from __future__ import annotations

import time
from typing import NamedTuple

LONGEST_LINE = 16 * 1024
"""Bytes of a line, after which it is written in parts (containerd's max_container_log_line_size)."""


class Entry(NamedTuple):
    """A line of a log."""

    time: bytes
    """RFC 3339, with nanoseconds, in UTC: earlier times are smaller texts."""
    stream: bytes
    text: bytes
    """What the container wrote, with its newline if the line ended."""


def head(stream: str) -> bytes:
    """What a line of a stream that is written now begins with."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{nanoseconds:09d}Z {stream} ".encode("ascii")


def lines(text: bytes, begin: bytes) -> tuple[bytes, bytes]:
    """The lines of a log that hold a text, each with the head `begin`; and what is left: a line that has not ended."""
    whole, part = begin + b"F ", begin + b"P "
    *ended, rest = text.split(b"\n")
    written = []
    for line in ended:
        shown = line
        while len(shown) > LONGEST_LINE:
            written.append(part + shown[:LONGEST_LINE])
            shown = shown[LONGEST_LINE:]
        written.append(whole + shown)
    while len(rest) > LONGEST_LINE:
        written.append(part + rest[:LONGEST_LINE])
        rest = rest[LONGEST_LINE:]
    return b"".join(line + b"\n" for line in written), rest


def last(rest: bytes, begin: bytes) -> bytes:
    """The line of a log that holds the end of a text without a newline."""
    return begin + b"F " + rest + b"\n"


def entry(line: bytes) -> Entry | None:
    """A line of a log, without its newline; None if it is none, as after a full disk."""
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        return None
    moment, stream, tag, text = parts
    return Entry(moment, stream, text if tag == b"P" else text + b"\n")


def text(log: bytes) -> bytes:
    """What the container wrote, of a log's whole lines."""
    return b"".join(found.text for line in log.split(b"\n") if (found := entry(line)) is not None)
