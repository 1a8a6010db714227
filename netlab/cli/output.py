"""How values are written: as a table, as JSON, as YAML; and how a long job shows its progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.cells import cell_len

from netlab.errors import NetlabError
from netlab.visible import visible

_COLUMNS = 80
"""Of a terminal that does not say how many it has."""

_MOST_CELLS = 79
"""Of a line that is replaced: a terminal of more columns can become narrower without breaking it."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write columns as wide as their contents, as kubectl does."""
    shown = [[visible(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(header))]
    for row in shown:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def value(data: Any, form: str) -> None:
    """Write plain values as `json` or `yaml`."""
    if form == "json":
        click.echo(escaped_json(msgspec.json.format(msgspec.json.encode(data), indent=2).decode()))
    else:
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, default_flow_style=False), nl=False)


def warn(text: str) -> None:
    """Print the API server's warning, as kubectl does."""
    say(f"Warning: {text}", err=True)


def say(text: str, *, err: bool = False) -> None:
    """Write a line in which there may be what a container, a manifest, an API or a packet said."""
    click.echo(visible(text), err=err)


def raise_all(errors: Sequence[NetlabError]) -> None:
    """Say what went wrong with several things, a line for each; the last one gives the exit status."""
    for error in errors[:-1]:
        say(f"netlab: {error}", err=True)
    if errors:
        raise errors[-1]


def escaped_json(text: str) -> str:
    """The same JSON, in which nothing controls a terminal: its encoder leaves all but C0 controls as they are."""
    return "\n".join(_escaped_line(line) for line in text.split("\n"))


def _escaped_line(line: str) -> str:
    if line.isascii() and line.isprintable():
        return line
    return "".join(each if visible(each) == each else f"\\u{ord(each):04x}" for each in line)


class Progress:
    """One line on the terminal that says what is going on; silent without a terminal."""

    def __init__(self) -> None:
        self._cells = 0
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            width = _columns()
            line = fitted(f"{visible(text)} ...", width)
            click.echo(wiping(self._cells, width) + line, err=True, nl=False)
            self._cells = cell_len(line)

    def done(self) -> float:
        """Wipe the line; the seconds since the beginning."""
        if self._cells:
            click.echo(wiping(self._cells, _columns()), err=True, nl=False)
            self._cells = 0
        return time.monotonic() - self._began


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def fitted(text: str, width: int) -> str:
    """As much of a text as stands on one line of a terminal of so many columns, the last of which stays free."""
    text = "".join(each if each.isprintable() else "\ufffd" for each in text)
    room = max(min(width - 1, _MOST_CELLS), 1)
    if cell_len(text) <= room:
        return text
    while cell_len(text) > room - 1:
        text = text[:-1]
    return f"{text}…"


def wiping(cells: int, width: int) -> str:
    """What wipes a line of so many cells, at whose end the cursor stands, and puts the cursor to its beginning.

    A terminal that has become narrower has broken it into several.
    """
    # Not by one "erase below": in the first row of a screen that puts the line into tmux's history.
    broken = max(cells - 1, 0) // width
    return "\r\033[K" + "\033[A\033[K" * broken
