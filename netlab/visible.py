"""What came from elsewhere, made safe to be shown."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls (ECMA-48), line separators, what reverses the direction of text (UAX #9), and halves of pairs."""

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible(text: str) -> str:
    """The text with what would control a terminal shown instead, as in Python: ESC is `\\x1b`, a line's end `\\n`.

    What came from a container, a manifest, an API or a packet goes through this before people see it.
    """
    return _UNSAFE.sub(lambda match: _SHORT.get(match[0]) or _escaped(ord(match[0])), text)


def visible_lines(text: str) -> str:
    """The same of a text of several lines: their ends and tabs stay."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
