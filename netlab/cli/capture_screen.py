"""What `netlab capture` shows: a line for each packet, how things are meanwhile, and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import click
import msgspec

from netlab.capture import rendering
from netlab.capture.changes import Change
from netlab.capture.conversations import Conversation, Conversations
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import SCTP, TCP, UDP, Flow, endpoint_text, protocol_name
from netlab.capture.session import FOLLOWED, Session
from netlab.capture.taps import Tap
from netlab.cli.output import escaped_json, warn
from netlab.cli.wrapping import duration, shortened, width, wrapped
from netlab.counted import counted
from netlab.visible import visible

if TYPE_CHECKING:
    from netlab.lab.watch import Watch

_CLOCK = 15
_PACKETS, _END = 5, 11
_ABOUT = 16
"""Columns of what a packet is about, and how long it took, at least."""

_INDENT = 4
_PIPED = 60
"""Columns of a connection's names where no terminal says how many there are."""

_NARROW = 100
"""Columns below which lines at one tap leave out hours and minutes, and cut the names of taps."""

_TAP = 21
"""Columns of a tap's name there: `node-1 veth929b6acc27`."""

Shown = Literal["connections", "packets", "taps"]
"""What has a line: a connection, a packet (and its way below), or a packet at one tap."""

_REFRESH = 0.2
"""Seconds between two changes of the line that says how things are."""


class Screen(AbstractContextManager["Screen"]):
    """Writes lines to the terminal or wherever standard output goes, and the rest to standard error."""

    def __init__(self, watch: Watch, shown: Shown, *, json: bool, silent: bool, limit: int | None) -> None:
        """`silent`: lines are counted only, because standard output is for the packets themselves."""
        self._watch = watch
        self._json = json
        self._silent = silent
        self._conversations = Conversations() if shown == "connections" and not json else None
        self._left = limit
        self._began = time.monotonic()
        self._columns = width()
        self._next_status = 0.0
        self._live: Any = None
        self._shown = 0
        if sys.stdout.isatty() and not json:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
        self._tap = max([len(_tap_name(tap)) for tap in watch.taps], default=0)
        self._in_full = shown != "connections"
        self._narrow = 0 < self._columns < _NARROW
        if self._narrow:
            self._tap = min(self._tap, _TAP)
        self._header = "" if json else self._headers()[shown]

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            click.echo(f"watching {counted(len(self._watch.taps), 'tap')}", err=True)
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

    def journey(self, journey: Journey, changed: Sequence[Sequence[Change]]) -> None:
        """Show a packet, or take it in as one of its connection's."""
        if self._conversations is not None:
            self._conversations.add([journey])
        elif self._one_more():
            if self._json:
                self._write_json(rendering.values(journey, changed))
            else:
                self._packet(journey)

    def advance(self, time: int | None) -> None:
        """Show the connections that are over, if no packet before that time is to come (None: none at all)."""
        if self._conversations is not None:
            found = self._conversations.flush() if time is None else self._conversations.ended(time)
            for each in found:
                if self._one_more():
                    self._conversation(each)

    def sighting(self, seen: Sighting) -> None:
        """Show a packet at one tap."""
        if not self._one_more():
            return
        if self._json:
            self._write_json({"time": seen.time, **rendering.hop(seen, (), seen.time)})
            return
        direction = "out" if seen.outgoing else "in"
        (tap,) = shortened([_tap_name(seen.tap)], self._tap)
        self._line(f"{self._clock(seen.time)} {tap:<{self._tap}} {direction:<3} {seen.headers}")

    def _conversation(self, one: Conversation) -> None:
        packets = f"{one.requests}>{one.replies}"
        end = one.end or duration(one.last - one.began)
        tail = f"{protocol_name(one.protocol).removesuffix('v6'):<4} {packets:<{_PACKETS}} {end:<{_END}}"
        self._fitted(rendering.clock(one.began)[:8], one.protocol, one.client, one.reached, tail)

    def _packet(self, journey: Journey) -> None:
        first, last = journey.sightings[0], journey.sightings[-1]
        protocol = (first.headers.quoted or first.headers).protocol
        client, reached = journey.client, rendering.reached(journey)
        took = duration(last.time - first.time) if len(journey.sightings) > 1 else ""
        about = rendering.said(first.headers)
        tail = f"{protocol_name(first.headers.protocol)} {about}  {took}".ljust(_ABOUT)
        self._fitted(rendering.clock(first.time), protocol, client, reached, tail, reply=journey.reply)
        arrow = " < " if journey.reply else " > "
        flows = [client] if reached == client else [client, reached]
        texts = [arrow.join((endpoint_text(*flow[:2]), endpoint_text(*flow[2:]))) for flow in flows]
        self._line(", NAT ".join(texts), "dim", indent=_INDENT)
        self._line(rendering.way(journey.sightings).replace("default/", ""), "dim", indent=_INDENT)

    def _fitted(
        self, clock: str, protocol: int, client: Flow, reached: Flow, tail: str, *, reply: bool = False
    ) -> None:
        """A line that names the ends of a connection; what its client does not see, behind what it does."""
        names = self._watch.names
        arrow = " < " if reply else " > "
        ports = protocol in (TCP, UDP, SCTP)
        parts = [names.called(client[0], 0, protocol), names.called(client[2], client[3] * ports, protocol)]
        if reached[2:] != client[2:]:
            parts.append(names.called(reached[2], reached[3] * ports, protocol))
        source = names.called(reached[0], 0, protocol) if reached[0] != client[0] else ""
        room = self._columns - len(clock) - len(tail) - 4 if self._columns else 0
        around = len(arrow) * (len(parts) - 1) + (len(" as ") if source else 0)
        *parts, source = shortened([*parts, source], max(room - around, 1) if room else 0)
        ends = arrow.join(parts) + (f" as {source}" if source else "")
        self._line(f"{clock}  {ends:<{room or _PIPED}}  {tail}".rstrip(), indent_more=_INDENT)

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
            f"{counted(len(self._watch.taps), 'tap')}, {counted(session.frames, 'frame')}, "
            f"{counted(self._shown, 'line')}, {drops} lost{behind}, "
            f"{now - self._began:.0f} s; Ctrl-C ends it"
        )
        style = "bold red" if drops else "reverse"
        self._live.update(Text(text, style=style, no_wrap=True, overflow="ellipsis"), refresh=True)

    def summary(self, session: Session, path: Path | None) -> int:
        """Tell on standard error how many frames there were, in full or after losses tap by tap; how many were lost."""
        engine = self._watch.engine
        received, drops, gone = engine.received, engine.drops, engine.gone
        lost = sum(drops.values())
        where = f"; in {path}" if path is not None and not self._silent else ""
        click.echo(
            f"{counted(session.frames, 'frame')} at {counted(len(received), 'tap')}, {lost} lost{where}", err=True
        )
        if self._in_full or lost:
            self._tap_by_tap(received, drops, gone)
        if session.unfollowed:
            warn(
                f"{session.unfollowed} frames came faster than they could be followed and are not shown"
                f"{' but written, without comments' if path else ''}; the first {FOLLOWED} of each connection are"
            )
        if lost:
            warn(f"{lost} FRAMES WERE LOST for lack of buffer space; watch less (a filter with -f, fewer taps)")
        return lost

    def _tap_by_tap(self, received: Mapping[Tap, int], drops: Mapping[Tap, int], gone: Collection[Tap]) -> None:
        rows = [
            (_tap_name(tap), count - drops[tap], drops[tap], "  gone" if tap in gone else "")
            for tap, count in received.items()
            if count or tap in gone
        ]
        if rows:
            width = max(len(name) for name, *_ in rows)
            click.echo(f"{'TAP':<{width}} {'FRAMES':>10} {'LOST':>8}", err=True)
            for name, count, dropped, note in rows:
                click.echo(f"{name:<{width}} {count:>10} {dropped:>8}{note}", err=True)
            silent = len(received) - len(rows)
            if silent:
                click.echo(f"Nothing passed {silent} other tap{'s' if silent > 1 else ''}.", err=True)

    def _clock(self, time: int) -> str:
        return rendering.clock(time)[len("HH:MM:") if self._narrow else 0 :]

    def _one_more(self) -> bool:
        if self._left is not None:
            if self._left == 0:
                return False
            self._left -= 1
        self._shown += 1
        return True

    def _headers(self) -> dict[Shown, str]:
        tail = f"{'TYPE':<4} {'PKTS':<{_PACKETS}} {'TOOK':<{_END}}"
        room = self._columns - 8 - len(tail) - 4 if self._columns else _PIPED
        ends = f"{'CLIENT > DIALLED > REACHED as SOURCE':<{room}}"[:room]
        return {
            "connections": f"{'TIME':<8}  {ends}  {tail}",
            "packets": f"{'TIME':<{_CLOCK}}  CLIENT > DIALLED > REACHED as SOURCE",
            "taps": f"{'TIME':<{len(self._clock(0))}} {'TAP':<{self._tap}} {'':<3} PACKET",
        }

    def _line(self, text: str, style: str = "", *, indent: int = 0, indent_more: int = _INDENT) -> None:
        if self._silent:
            return
        for line in wrapped(" " * indent + visible(text), self._columns, indent + indent_more):
            if self._live is None:
                click.echo(line)
            else:
                from rich.text import Text

                self._live.console.print(Text(line, style=style), soft_wrap=True)

    def _write_json(self, value: dict[str, Any]) -> None:
        click.echo(escaped_json(msgspec.json.encode(value).decode()))


def _tap_name(tap: Tap) -> str:
    return visible(tap.name.removeprefix("default/"))
