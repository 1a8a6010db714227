"""pause: a program that does nothing until it is told to end."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Wait for SIGTERM or SIGINT: the kernel does not end pid 1 of a namespace by default."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
    return 0
