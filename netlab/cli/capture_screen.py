"""What `netlab capture` shows: a line for each packet, how things are meanwhile, and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
import msgspec

from netlab.capture import table
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import protocol_name
from netlab.capture.session import FOLLOWED, Session
from netlab.cli.output import warn

if TYPE_CHECKING:
    from netlab.lab.watch import Watch

_CLOCK, _PROTOCOL = 15, 6
_ADDRESS = {"IPv4": 21, "IPv6": 29}
_REFRESH = 0.2
"""Seconds between two changes of the line that says how things are."""


class Screen(AbstractContextManager["Screen"]):
    """Writes lines to the terminal or wherever standard output goes, and the rest to standard error."""

    def __init__(self, watch: Watch, *, json: bool, follow: bool, family: str, limit: int | None) -> None:
        self._watch = watch
        self._json = json
        self._width = _ADDRESS[family]
        self._left = limit
        self._began = time.monotonic()
        self._next_status = 0.0
        self._live: Any = None
        self._shown = 0
        self._owner = max([len(tap.name) for tap in watch.taps], default=0)
        if sys.stdout.isatty() and not json:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
        self._header = "" if json else self._sighting_header() if follow else self._journey_header()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            click.echo(f"watching {len(self._watch.taps)} taps", err=True)
        if self._header:
            self._line(self._header, "bold")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def full(self) -> bool:
        """Whether as many lines have been shown as were asked for."""
        return self._left == 0

    def journey(self, journey: Journey, changed: Sequence[Sequence[str]]) -> None:
        """Show a packet."""
        if not self._one_more():
            return
        if self._json:
            self._write_json(table.values(journey, changed))
            return
        ends = table.addresses(journey)
        first, last = journey.sightings[0], journey.sightings[-1]
        source = "=" if ends.source == ends.client else ends.source
        endpoint = "=" if ends.endpoint == ends.dialled else ends.endpoint
        cells = (ends.client, "<" if journey.reply else ">", ends.dialled, source, endpoint)
        took = f"{(last.time - first.time) / 1e6:.3f} ms" if len(journey.sightings) > 1 else ""
        about = table.said(first.headers)
        self._line(self._row(table.clock(first.time), protocol_name(first.headers.protocol), *cells, about))
        self._line(f"{table.way(journey.sightings)}  {took}".rstrip(), "dim", indent=_CLOCK + 1)

    def sighting(self, seen: Sighting) -> None:
        """Show a packet at one tap."""
        if not self._one_more():
            return
        if self._json:
            self._write_json({"time": seen.time, **table.hop(seen, (), seen.time)})
            return
        direction = "out" if seen.outgoing else "in"
        self._line(f"{table.clock(seen.time)} {seen.tap.name:<{self._owner}} {direction:<3} {seen.headers}")

    def status(self, session: Session) -> None:
        """Say how things are, on a terminal."""
        now = time.monotonic()
        if self._live is None or now < self._next_status:
            return
        from rich.text import Text

        self._next_status = now + _REFRESH
        drops = sum(self._watch.engine.drops.values())
        behind = f", {session.unfollowed} not followed" if session.unfollowed else ""
        text = (
            f"{len(self._watch.taps)} taps, {session.frames} frames, {self._shown} lines, {drops} lost{behind}, "
            f"{now - self._began:.0f} s; Ctrl-C ends it"
        )
        self._live.update(Text(text, style="bold red" if drops else "reverse"), refresh=True)

    def summary(self, session: Session, path: Path | None) -> int:
        """Tell on standard error what there was at each tap; how many frames were lost."""
        engine = self._watch.engine
        received, drops, gone = engine.received, engine.drops, engine.gone
        lost = sum(drops.values())
        rows = [
            (tap.name, count - drops[tap], drops[tap], "  gone" if tap in gone else "")
            for tap, count in received.items()
            if count or tap in gone
        ]
        silent = len(received) - len(rows)
        where = f"; in {path}" if path is not None else ""
        click.echo(f"{session.frames} frames at {len(received)} taps, {lost} lost{where}", err=True)
        if rows:
            width = max(len(name) for name, *_ in rows)
            click.echo(f"{'TAP':<{width}} {'FRAMES':>10} {'LOST':>8}", err=True)
            for name, count, dropped, note in rows:
                click.echo(f"{name:<{width}} {count:>10} {dropped:>8}{note}", err=True)
        if silent and rows:
            click.echo(f"Nothing passed {silent} other tap{'s' if silent > 1 else ''}.", err=True)
        if session.unfollowed:
            warn(
                f"{session.unfollowed} frames came faster than they could be followed: they are not shown"
                f"{' but written, without comments' if path else ''}; the first {FOLLOWED} of each connection are"
            )
        if lost:
            warn(f"{lost} FRAMES WERE LOST for want of room: watch less (a filter by -f, fewer taps)")
        return lost

    def _one_more(self) -> bool:
        if self._left is not None:
            if self._left == 0:
                return False
            self._left -= 1
        self._shown += 1
        return True

    def _journey_header(self) -> str:
        return self._row("TIME", "PROTO", "CLIENT", " ", "DIALLED", "SOURCE", "ENDPOINT", "WHAT")

    def _sighting_header(self) -> str:
        return f"{'TIME':<{_CLOCK}} {'TAP':<{self._owner}} {'':<3} PACKET"

    def _row(self, *cells: str) -> str:
        address = self._width
        widths = (_CLOCK, _PROTOCOL, address, 1, address, address, address, 0)
        return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()

    def _line(self, text: str, style: str = "", indent: int = 0) -> None:
        if self._live is None:
            click.echo(" " * indent + text)
            return
        from rich.padding import Padding
        from rich.text import Text

        self._live.console.print(Padding(Text(text, style=style), (0, 0, 0, indent)))

    def _write_json(self, value: dict[str, Any]) -> None:
        click.echo(msgspec.json.encode(value))
