"""netlab top: what uses a lab most, once or live."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from netlab.cli.duration import Duration
from netlab.cli.options import lab_option
from netlab.cli.output import say, table, value
from netlab.errors import UsageError
from netlab.lab.lab import Lab
from netlab.visible import visible

if TYPE_CHECKING:
    from netlab.lab.top import Flow, Row

_INTERVAL = 2.0
_FIRST = 1.0
"""Seconds between the two readings that make a rate."""

Subject = Literal["pods", "nodes", "flows"]

_KEYS = {
    "pods": {"cpu": "c", "memory": "m", "received": "r", "sent": "s", "processes": "o", "name": "a"},
    "nodes": {"cpu": "c", "memory": "m", "received": "r", "sent": "s", "processes": "o", "name": "a"},
    "flows": {"bytes": "b", "packets": "k", "connections": "c", "name": "a"},
}
"""By what each can be sorted, the usual one first, and the letter that does it."""
_SUBJECTS = {"p": "pods", "n": "nodes", "f": "flows"}


@click.command()
@click.argument("subject", type=click.Choice(tuple(_KEYS)), default="pods", metavar="[pods|nodes|flows]")
@lab_option
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Pods of this namespace alone.")
@click.option(
    "--sort-by", metavar="KEY", help="By what to sort: cpu, memory, received, sent, processes, bytes, packets..."
)
@click.option("--once", is_flag=True, help="Print it once, as when standard output is no terminal.")
@click.option("--interval", type=Duration(), default=_INTERVAL, show_default=True, help="Seconds between two readings.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="The format, instead of a table; implies --once.")
def top(
    subject: Subject,
    lab: Lab,
    namespace: str | None,
    sort_by: str | None,
    *,
    once: bool,
    interval: float,
    output: str | None,
) -> None:
    """Show what uses a lab most: pods, nodes, or connections (flows).

    Live on a terminal: p, n and f change what is shown, letters in the last line by what it is sorted, q ends it.

    \b
    netlab top
    netlab top nodes --sort-by memory --once
    netlab top flows
    """
    if sort_by is not None and sort_by not in _KEYS[subject]:
        raise UsageError(f"--sort-by: {subject} have no {sort_by!r}: choose one of {', '.join(_KEYS[subject])}")
    lab.client()
    from netlab.lab.network_envoy import NetworkEnvoy

    with NetworkEnvoy(lab) as envoy:
        reader = _Reader(lab, envoy, namespace)
        if once or output or not sys.stdout.isatty():
            reader.read(subject)
            time.sleep(_FIRST)
            _print(reader.read(subject), subject, sort_by, output)
        else:
            _live(reader, subject, sort_by, interval)


class _Reader:
    """Reads what is shown, and keeps what a rate is made of."""

    def __init__(self, lab: Lab, envoy: Any, namespace: str | None) -> None:
        from netlab.lab import top as measured

        self._usage = measured.Usage(lab.client())
        self._flows = measured.Flows.of(lab, envoy)
        self._namespace = namespace

    def read(self, subject: Subject) -> tuple[list[Any], list[str]]:
        """The rows, and the nodes of which nothing is known."""
        if subject == "flows":
            return list(self._flows.read()), []
        nodes, pods, silent = self._usage.read()
        if subject == "nodes":
            return list(nodes), silent
        return [each for each in pods if self._namespace in (None, each.names[0])], silent


def _print(found: tuple[list[Any], list[str]], subject: Subject, sort_by: str | None, output: str | None) -> None:
    rows, silent = found
    rows = sorted_by(rows, subject, sort_by)
    if output:
        value(msgspec.to_builtins(rows), output)
    else:
        table(_HEADERS[subject], [_CELLS[subject](each) for each in rows])
    for node in silent:
        say(f"netlab: node {node}: its kubelet does not answer", err=True)


# --- rows ------------------------------------------------------------------------------------------------------------

_HEADERS: dict[str, tuple[str, ...]] = {
    "pods": ("NAMESPACE", "POD", "NODE", "CPU", "MEMORY", "RECEIVED/s", "SENT/s", "PROCESSES"),
    "nodes": ("NODE", "CPU", "CPU%", "MEMORY", "MEMORY%", "RECEIVED/s", "SENT/s", "PROCESSES"),
    "flows": ("CLIENT", "DIALLED", "SERVER", "PROTOCOL", "CONNECTIONS", "PACKETS/s", "BYTES/s"),
}
_NUMBERS = {"pods": 3, "nodes": 1, "flows": 4}
"""The column from which on there are numbers, which stand to the right."""


def sorted_by(rows: Sequence[Any], subject: Subject, key: str | None) -> list[Any]:
    """The most first; those of which it is not known last; by name, the first of the alphabet first."""
    chosen = key or next(iter(_KEYS[subject]))

    def name(row: Any) -> tuple[str, ...]:
        return (row.client, row.dialled, row.server) if subject == "flows" else row.names

    if chosen == "name":
        return sorted(rows, key=name)
    return sorted(rows, key=lambda row: (-(getattr(row, chosen) or 0), name(row)))


def _pod(row: Row) -> list[str]:
    return [*row.names, _cpu(row.cpu), _size(row.memory), _size(row.received), _size(row.sent), str(row.processes)]


def _node(row: Row) -> list[str]:
    cells = [_cpu(row.cpu), _percent(row.cpu_share), _size(row.memory), _percent(row.memory_share)]
    return [*row.names, *cells, _size(row.received), _size(row.sent), str(row.processes)]


def _flow(row: Flow) -> list[str]:
    rate = "-" if row.packets is None else f"{row.packets:.0f}"
    same = row.dialled == row.server
    server = "" if same else row.server
    return [row.client, row.dialled, server, row.protocol, str(row.connections), rate, _size(row.bytes)]


_CELLS: dict[str, Callable[[Any], list[str]]] = {"pods": _pod, "nodes": _node, "flows": _flow}


def _cpu(processors: float | None) -> str:
    return "-" if processors is None else f"{processors * 1000:.0f}m"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _size(amount: float | None) -> str:
    """Bytes, with the unit in which they have at most four digits."""
    if amount is None:
        return "-"
    for unit in ("", "Ki", "Mi", "Gi"):
        if amount < 10_000 or unit == "Gi":
            return f"{amount:.0f}{unit}"
        amount /= 1024
    raise AssertionError("unreachable")


# --- live ------------------------------------------------------------------------------------------------------------


def _live(reader: _Reader, subject: Subject, sort_by: str | None, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with _keys() as pressed, Live(console=console, auto_refresh=False, screen=True) as screen:
        reader.read(subject)
        pause = _FIRST
        while True:
            letter = pressed(pause)
            if letter == "q":
                return
            if letter in _SUBJECTS:
                subject, sort_by = _SUBJECTS[letter], None  # type: ignore[assignment]
            sort_by = next((key for key, own in _KEYS[subject].items() if own == letter), sort_by)
            pause = interval
            screen.update(_screen(reader.read(subject), subject, sort_by, console.height), refresh=True)


def _screen(found: tuple[list[Any], list[str]], subject: Subject, sort_by: str | None, height: int) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows, silent = found
    chosen = sort_by or next(iter(_KEYS[subject]))
    grid = Table(box=None, pad_edge=False, header_style="bold reverse", expand=True)
    for number, title in enumerate(_HEADERS[subject]):
        grid.add_column(title, justify="right" if number >= _NUMBERS[subject] else "left", no_wrap=True)
    room = max(height - 3 - len(silent), 1)
    for each in sorted_by(rows, subject, sort_by)[:room]:
        grid.add_row(*(Text(visible(cell)) for cell in _CELLS[subject](each)))
    others = ", ".join(f"{letter} {name}" for letter, name in _SUBJECTS.items() if name != subject)
    keys = ", ".join(f"{letter} {key}" for key, letter in _KEYS[subject].items() if key != chosen)
    lines = [Text(visible(f"node {each}: its kubelet does not answer"), style="red") for each in silent]
    status = Text(f"{len(rows)} {subject} by {chosen}    {others}    sort: {keys}    q quit", style="dim", no_wrap=True)
    return Group(grid, *lines, status)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """The keys that are pressed, without waiting for the end of the line: one within so many seconds, or ""."""
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source) if os.isatty(source) else None
    try:
        if before is not None:
            tty.setcbreak(source)

        def pressed(seconds: float) -> str:
            if before is None:
                time.sleep(seconds)
                return ""
            ready, _, _ = select.select([source], [], [], seconds)
            return os.read(source, 1).decode("ascii", errors="replace") if ready else ""

        yield pressed
    finally:
        if before is not None:
            termios.tcsetattr(source, termios.TCSADRAIN, before)
