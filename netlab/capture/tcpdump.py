"""A running tcpdump: started in any network namespace, and stopped without losing what the kernel has taken for it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from netlab.capture.groups import pretend_setgroups
from netlab.errors import NetlabError, NotFoundError, TimedOutError, UnsupportedError, UsageError
from netlab.net import syscalls

_LISTENING = "listening on "
_COUNT = re.compile(r"(\d+) packets? (captured|received by filter|dropped by kernel)")
_DLT = "EN10MB"
_BUFFER_KIB = 16 * 1024
_SNAPLEN = 8000
"""Bytes kept of a packet. In immediate mode libpcap's ring has one slot for each packet, of a power of two bytes: 2,048
slots with these; with the default, which holds the largest segment that a veth carries unsplit, 256."""

_LOOPBACK = "lo"
"""The kernel hands out its packets twice, on their way out and in; libpcap passes over the first, but counts it."""

_START_TIMEOUT = 10.0
_SETTLE_TIMEOUT = 10.0
_POLL = 0.002


class Capture:
    """Packets of one interface, written to a pcap file (mode 0600, nanosecond stamps) while it runs.

    Of an unsplit segment (GSO) longer than 8,000 bytes, only so many are kept.

    `enter` is called in tcpdump's process and moves it into the namespaces of the interface (None: the present ones).
    The interface must be named: of `any`, what was not written yet cannot be told. The constructor starts tcpdump;
    `wait_listening` returns when every later packet will be in the file. Use it as a context manager, which stops it,
    or call `stop`.
    """

    def __init__(
        self, path: Path, *, interface: str, expression: str = "", enter: Callable[[], None] | None = None
    ) -> None:
        """Raises `UnsupportedError` when there is no tcpdump, `NetlabError` when the file cannot be made."""
        self.path = path
        self.dropped = 0
        """Packets for which the kernel had no room: known when it has stopped."""
        self._copies = 2 if interface == _LOOPBACK else 1
        self._interface = interface
        self._expression = expression
        self._said = b""
        argv = [_program(), "-i", interface, "-n", "-U", "-w", "-", "--immediate-mode", "--time-stamp-precision=nano"]
        argv += ["-B", str(_BUFFER_KIB), "-s", str(_SNAPLEN)]
        # It would become the user `tcpdump`, whom a user namespace does not have.
        argv += ["-Z", "root", "--", *([expression] if expression else [])]
        with _created(path) as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                bufsize=0,
                preexec_fn=lambda: _move(enter),  # noqa: PLW1509 - callers are single-threaded, as setns(2) asks
                # The terminal's Ctrl-C is for netlab, which then stops this as it should be stopped.
                process_group=0,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_listening()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        else:
            self._kill()

    def wait_listening(self) -> None:
        """Wait until packets are taken.

        Raises `UsageError` for an expression that tcpdump refuses (in its own words), `NotFoundError` for an interface
        that is not there, `UnsupportedError` when packets may not be captured.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while _LISTENING.encode() not in self._said:
            if not self._hear(deadline):
                self._kill()
                raise self._refusal()

    def stop(self) -> None:
        """End it; every packet that the kernel has taken until now is in the file. Repeated, it does nothing.

        Raises `TimedOutError` when tcpdump does not keep up.
        """
        if self._process.returncode is not None:
            return
        try:
            self._settle()
            self._process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + _SETTLE_TIMEOUT
            while self._hear(deadline):
                pass
        finally:
            self._kill()
        self.dropped = _counts(self._said).get("dropped by kernel", 0)

    def _settle(self) -> None:
        """Wait until what the kernel has taken by now is written.

        tcpdump ends on SIGINT without emptying the ring. On SIGUSR1 it tells its counts: what is captured is also
        written (-U), and what the kernel received counts from the moment at which it put a packet into the ring.
        """
        deadline = time.monotonic() + _SETTLE_TIMEOUT
        wanted: int | None = None
        while True:
            self._said = b""
            self._process.send_signal(signal.SIGUSR1)
            while b"dropped by kernel" not in self._said:
                if not self._hear(deadline):
                    raise self._ended()
            counts = _counts(self._said)
            if wanted is None:
                # The kernel counts what it dropped among what it received.
                wanted = counts["received by filter"] // self._copies - counts["dropped by kernel"]
            if counts["captured"] >= wanted:
                return
            time.sleep(_POLL)

    def _hear(self, deadline: float) -> bool:
        """Take in what tcpdump says next; False when it has ended."""
        assert self._process.stderr is not None
        ready, _, _ = select.select([self._process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimedOutError(f"{self.path}: tcpdump does not answer: the machine is overloaded, try again")
        said = self._process.stderr.read(4096)
        self._said += said
        return bool(said)

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _refusal(self) -> NetlabError:
        if self._expression:
            checked = _check(self._expression)
            if checked:
                return UsageError(f"filter {self._expression!r}: {checked}; see `man pcap-filter`")
        words = _last_words(self._said)
        if "No such device" in words:
            return NotFoundError(f"there is no interface {self._interface!r} there; `ip link` lists them")
        if "ermission" in words or "not permitted" in words:
            return UnsupportedError(f"packets cannot be captured: {words}")
        return self._ended()

    def _ended(self) -> NetlabError:
        return NetlabError(f"{self.path}: tcpdump ended: {_last_words(self._said)}")


def _program() -> str:
    # Some distributions have it where an ordinary user's PATH does not look.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    program = shutil.which("tcpdump", path=path)
    if program is None:
        raise UnsupportedError("tcpdump is not installed, so packets cannot be captured: install the package tcpdump")
    return program


@contextlib.contextmanager
def _created(path: Path) -> Iterator[int]:
    """A new file in the place of what was there: who reads the old one keeps it whole."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NetlabError(f"{error.filename or path}: {error.strerror}: packets cannot be written there") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _move(enter: Callable[[], None] | None) -> None:
    """Runs in the child before tcpdump. It must not raise: Popen would hide why."""
    try:
        if enter is not None:
            enter()
        # Even with -Z root it calls initgroups(3), and ends when that fails.
        pretend_setgroups()
        syscalls.set_parent_death_signal(signal.SIGTERM)
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
        os._exit(1)


def _check(expression: str) -> str:
    """What tcpdump says of an expression; nothing if it is right."""
    argv = [_program(), "-d", "-y", _DLT, "--", expression]
    checked = subprocess.run(argv, capture_output=True, timeout=_START_TIMEOUT, check=False)
    return _last_words(checked.stderr) if checked.returncode else ""


def _last_words(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("tcpdump: ") if lines else "it said nothing"


def _counts(said: bytes) -> dict[str, int]:
    return {what: int(number) for number, what in _COUNT.findall(said.decode(errors="replace"))}
