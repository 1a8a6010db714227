"""netlab capture."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.options import NamespaceType, lab_option, output_option
from netlab.cli.streams import ReaderGoneError
from netlab.cli.suggestions import machines, namespaces, pods, services, suggest
from netlab.errors import NetlabError, UsageError
from netlab.lab.lab import Lab

if TYPE_CHECKING:
    from types import FrameType

    from netlab.capture.correlate import Journey
    from netlab.capture.pcapng import Writer
    from netlab.capture.session import Seen
    from netlab.cli.capture_screen import Screen, Shown
    from netlab.lab.watch import Watch

_WAIT = 0.1
"""Seconds without packets after which the terminal shows the counts so far."""

_FLUSH = 0.5
"""Seconds between two times at which the file is whole."""

_LATE = 1.0
"""Seconds between a packet and its being read from which on not every packet is followed."""

_COMPLETE = 500_000_000
"""Nanoseconds after which every packet has been read, if there is nothing to be read (`Engine.read`)."""

_LOST = 1
_INTERRUPTED = 130


@click.command()
@lab_option
@click.option(
    "-n",
    "--namespace",
    type=NamespaceType(),
    shell_complete=suggest(namespaces),
    help="The namespace of the pod or Service.  [default: search all]",
)
@click.option("--pod", shell_complete=suggest(pods), help="Packets of one pod, anywhere in the lab.")
@click.option(
    "--node",
    shell_complete=suggest(machines),
    help="Packets of a node and its pods, or of the machines outside or fabric.",
)
@click.option("--service", shell_complete=suggest(services), help="Packets of a Service, before and after translation.")
@click.option("--all", "everything", is_flag=True, help="All packets of the lab; excludes the options above.")
@click.option("-f", "--filter", "expression", default="", help="Only packets that match a pcap-filter(7).")
@click.option(
    "-w",
    "--write",
    "path",
    type=click.Path(path_type=Path),
    help="Write a pcapng file, for Wireshark and others; - is standard output, without lines.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show each packet with its addresses and its path, tap by tap.")
@click.option("--follow", is_flag=True, help="Show a line for each tap a packet passes, at once.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many lines.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after this many seconds.")
@output_option("json")
def capture(
    lab: Lab,
    namespace: str | None,
    pod: str | None,
    node: str | None,
    service: str | None,
    everything: bool,
    expression: str,
    path: Path | None,
    verbose: bool,
    follow: bool,
    count: int | None,
    duration: float | None,
    output: str | None,
) -> None:
    """Watch packets at every interface of the lab at once, until Ctrl-C.

    Each line is one connection: its client, what it dialled, and what these became through NAT (the server that was
    reached, and the source that it saw); the packets that went there and back; how long it took, or how it ended. A
    connection that goes on is shown every five seconds. With -v each line is one packet, with -o json each object.

    The file has an interface for each tap, and comments on the packets that say what changed. Exit status 1 if packets
    were lost.

    \b
    netlab capture --service web
    netlab capture --service web -v
    netlab capture --pod web-5d4f9-x2x7p -f 'tcp port 8080' -w web.pcapng
    netlab capture --service web -w - | wireshark -k -i -
    netlab capture --all --duration 5 -o json
    netlab capture --node node-1 --follow
    """
    from netlab.api.cluster import read
    from netlab.capture.pcapng import STANDARD_OUTPUT
    from netlab.cli.capture_screen import Screen
    from netlab.lab.selection import select
    from netlab.lab.watch import Watch

    if everything and (pod, node, service) != (None, None, None):
        raise UsageError("--all is everything: leave it out, or the name")
    if path == STANDARD_OUTPUT:
        _require_piped(output)
    selection = select(read(lab.client()), pod=pod, node=node, service=service, namespace=namespace)
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(lab, selection, expression))
        writer = None if path is None else stack.enter_context(_writer(path, watch, f"{selection}, lab {lab.name}"))
        shown: Shown = "taps" if follow else "packets" if verbose else "connections"
        screen = Screen(watch, shown, json=output == "json", silent=path == STANDARD_OUTPUT, limit=count)
        capture = _Capture(watch, screen, writer, follow)
        try:
            with screen, _stopping(watch, duration):
                failure = capture.run()
        except BrokenPipeError:
            raise ReaderGoneError from None
        lost = screen.summary(capture.session, path)
    if failure is not None:
        raise failure
    if lost:
        sys.exit(_LOST)


def _require_piped(output: str | None) -> None:
    if output:
        raise UsageError("-w - writes packets to standard output, and -o lines: leave one of them out, or name a file")
    if sys.stdout.isatty():
        raise UsageError("-w - writes packets, and standard output is a terminal: `-w - | wireshark -k -i -`")


def _writer(path: Path, watch: Watch, what: str) -> Writer:
    from netlab.capture.pcapng import Writer

    if path.is_dir():
        raise UsageError(f"-w {path}: is a directory; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"-w {path}: no directory {path.parent}")
    return Writer(
        path,
        sorted(watch.taps, key=lambda tap: tap.name),
        expression=watch.expression,
        comment=f"netlab capture: {what}",
    )


@contextlib.contextmanager
def _stopping(watch: Watch, duration: float | None) -> Iterator[None]:
    """The first signal ends the capture; one more, what is left to be done with what was captured."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        watch.engine.stop()

    def expire(number: int, frame: FrameType | None) -> None:
        watch.engine.stop()

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: stop, signal.SIGALRM: expire}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, duration or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _Capture:
    """Moves packets from the engine to the file and the screen until the engine has been stopped."""

    def __init__(self, watch: Watch, screen: Screen, writer: Writer | None, follow: bool) -> None:
        from netlab.capture.session import Session

        self._watch = watch
        self._screen = screen
        self._writer = writer
        self._follow = follow
        self._next_flush = 0.0
        self._failure: NetlabError | None = None
        """Why there is no more to be captured."""
        self.session = Session(writer, watch.cause)

    def run(self) -> NetlabError | None:
        """What ended it, if it was not asked to end; whatever was captured until then is in the file all the same."""
        failure: NetlabError | None = None
        try:
            self._read()
        except KeyboardInterrupt:
            failure = NetlabError("interrupted again: packets that were captured but not read yet are missing")
            failure.exit_status = _INTERRUPTED
        except NetlabError as error:
            failure = error
        except ReaderGoneError:  # who reads the lines has seen enough; the file may be for others
            self._finish()
            raise
        try:
            self._show_journeys(self._finish())
            if not self._follow:
                self._screen.advance(None)
        except NetlabError as error:  # no room for the rest of the file: most likely what has ended it
            failure = failure or error
        return failure or self._failure

    def _finish(self) -> list[Journey]:
        journeys = self.session.finish()
        if self._writer is not None:
            self._writer.statistics(self._watch.engine.received, self._watch.engine.drops)
        return journeys

    def _read(self) -> None:
        from netlab.capture.correlate import SETTLED

        engine, session, screen = self._watch.engine, self.session, self._screen
        session.learn(self._watch.known())
        while not engine.finished:
            self._keep_up()
            session.learn(self._watch.heard())
            frames = engine.read()
            if not frames:
                self._watch.wait(_WAIT)
                frames = engine.read()
            late = bool(frames) and time.time() - frames[-1].time / 1e9 > _LATE
            self._show(session.add(frames, crowded=late))
            complete = frames[-1].time if frames else time.time_ns() - _COMPLETE
            if not frames:
                self._show_journeys(session.advance(complete))
            screen.advance(complete - SETTLED)
            self._flush()
            screen.status(session)
            if screen.full or self._failure is not None:
                engine.stop()

    def _flush(self) -> None:
        """Have what is written in the file, for those who read it meanwhile, or after a kill."""
        now = time.monotonic()
        if self._writer is not None and now >= self._next_flush:
            self._next_flush = now + _FLUSH
            self._writer.flush()

    def _keep_up(self) -> None:
        """Tap what is new. When that cannot be, because what was watched is no more, the capture ends."""
        if self._failure is None:
            try:
                for tap in self._watch.keep_up():
                    if self._writer is not None:
                        self._writer.add(tap)
            except NetlabError as error:
                self._failure = error

    def _show(self, seen: Seen) -> None:
        if self._follow:
            for each in seen.sightings:
                self._screen.sighting(each)
        self._show_journeys(seen.journeys)

    def _show_journeys(self, journeys: list[Journey]) -> None:
        if not self._follow:
            for journey in filter(self._watch.concerns, journeys):
                self._screen.journey(journey, self.session.explained(journey))
