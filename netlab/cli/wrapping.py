"""Lines that fit the terminal: names give way first, addresses never break."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence

_NARROWEST = 40
_SHORTEST = 9
"""Characters of a name that are left at least: `web…-g7pcp`."""


def width() -> int:
    """Columns of the terminal that standard output is; 0 where it is none: then a line is as long as it is."""
    if not sys.stdout.isatty():
        return 0
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def wrapped(text: str, columns: int, indent: int = 0) -> Iterator[str]:
    """The text in lines of at most so many columns, broken between words alone; all but the first are indented.

    A word that is wider than that has a line of its own. 0 columns: one line.
    """
    line = ""
    for word in re.findall(r" *[^ ]+", text):
        if columns and line and len(line) + len(word) > columns:
            yield line
            line = " " * indent + word.lstrip()
        else:
            line += word
    yield line


def shortened(parts: Sequence[str], columns: int) -> list[str]:
    """The parts with their longest names cut in the middle (`web-5d…x2x7p`) until together they have so many columns.

    A part is a name or an address, with a port or without; addresses stay as they are, and so do names that are short.
    What cannot be shortened enough stays too long. 0 columns: nothing is cut.
    """
    found = list(parts)
    while columns and sum(map(len, found)) > columns:
        longest = max(range(len(found)), key=lambda number: _room(found[number]))
        if not _room(found[longest]):
            break
        name, colon, port = found[longest].partition(":")
        found[longest] = f"{_cut(name)}{colon}{port}"
    return found


def _room(part: str) -> int:
    """Characters by which a name may become shorter."""
    name = part.partition(":")[0]
    is_name = not part.startswith("[") and part.count(":") < 2 and any(letter.isalpha() for letter in name)
    return max(len(name) - _SHORTEST, 0) if is_name else 0


def _cut(name: str) -> str:
    """The name with one character less. The end tells the pods of a Deployment apart: five characters of it stay."""
    head, mark, tail = name.partition("…")
    if not mark:
        return f"{name[:-7]}…{name[-5:]}"
    return f"{head[:-1]}…{tail}"


def duration(nanoseconds: int) -> str:
    """A time in the unit that suits it: `85 µs`, `3.1 ms`, `12 s`."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{nanoseconds / 1000:.0f} µs"
