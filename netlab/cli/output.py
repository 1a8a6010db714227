"""How values are written: as a table, as JSON, as YAML; and how a long job shows its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write columns as wide as their contents, as kubectl does."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def value(data: Any, form: str) -> None:
    """Write plain values as `json` or `yaml`."""
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
    else:
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, default_flow_style=False), nl=False)


def warn(text: str) -> None:
    """Print the API server's warning, as kubectl does."""
    click.echo(f"Warning: {text}", err=True)


class Progress:
    """One line on the terminal that says what is going on; silent without a terminal."""

    def __init__(self) -> None:
        self._shown = False
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            click.echo(f"\r\033[K{text} ...", err=True, nl=False)
            self._shown = True

    def done(self) -> float:
        """Wipe the line; the seconds since the beginning."""
        if self._shown:
            click.echo("\r\033[K", err=True, nl=False)
        return time.monotonic() - self._began
