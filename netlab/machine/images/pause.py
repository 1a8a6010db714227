"""pause: a program that does nothing until it is told to end, but reap what others leave in its pid namespace."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Wait for SIGTERM or SIGINT: the kernel does not end pid 1 of a namespace by default."""
    # The kernel drops a signal that is ignored by default, even a blocked one, unless it has a handler.
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    while signal.sigwait(awaited) == signal.SIGCHLD:
        _reap()
    return 0


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
