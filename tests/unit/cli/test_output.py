"""The line that says what is going on; what is printed controls no terminal."""

import json

import pytest

from netlab.cli.output import fitted, say, table, value, warn, wiping

HOSTILE = "\x1b]0;title\x07 \x9b31m \u202egnp\nnetlab: all is well"
SHOWN = "\\x1b]0;title\\x07 \\x9b31m \\u202egnp\\nnetlab: all is well"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 60, "short"),
        ("x" * 59, 60, "x" * 59),
        ("x" * 60, 60, "x" * 58 + "…"),
        ("x" * 200, 120, "x" * 78 + "…"),
        ("漢字" * 4, 10, "漢字漢字…"),
        ("a\x1b[31m\tb", 60, "a\ufffd[31m\ufffdb"),
        ("abc", 1, "…"),
    ],
)
def test_the_line_never_reaches_the_last_column(text: str, width: int, shown: str) -> None:
    assert fitted(text, width) == shown


@pytest.mark.parametrize(
    ("cells", "width", "wiped"),
    [
        (0, 80, "\r\033[K"),
        (79, 80, "\r\033[K"),
        (79, 79, "\r\033[K"),
        (79, 60, "\r\033[K\033[A\033[K"),
        (79, 20, "\r\033[K" + "\033[A\033[K" * 3),
    ],
)
def test_a_line_that_the_terminal_has_broken_is_wiped_whole(cells: int, width: int, wiped: str) -> None:
    assert wiping(cells, width) == wiped


def test_what_came_from_elsewhere_is_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    table(["NAME", "MESSAGE"], [["a", HOSTILE]])
    say(HOSTILE)
    warn(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out == f"NAME   MESSAGE\na      {SHOWN}\n{SHOWN}\n"
    assert printed.err == f"Warning: {SHOWN}\n"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_values_are_escaped_as_their_form_has_it(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    value({"text": HOSTILE, "größe": "é"}, form)
    printed = capsys.readouterr().out
    assert all(each.isprintable() for each in printed.replace("\n", ""))
    if form == "json":
        assert json.loads(printed) == {"text": HOSTILE, "größe": "é"}
        assert "größe" in printed
