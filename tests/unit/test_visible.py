"""What came from elsewhere cannot control the terminal."""

from __future__ import annotations

import pytest

from netlab.visible import visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-1: 200 OK, größer, 日本, 🙂", "web-1: 200 OK, größer, 日本, 🙂"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\x7f", "\\x7f"),
        ("\u202egnp.exe\u2069", "\\u202egnp.exe\\u2069"),
        ("\u2028\udcff", "\\u2028\\udcff"),
        ("\u061c", "\\u061c"),
    ],
)
def test_controls_are_shown_and_letters_are_left_alone(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_and_tabs_stay_in_a_text() -> None:
    assert visible_lines("a\tb\n\x1b[31mc\r\n") == "a\tb\n\\x1b[31mc\\r\n"
