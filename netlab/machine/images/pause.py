"""pause: the program that does nothing, until it is told to end."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Wait for SIGTERM or SIGINT; as pid 1 of its namespace a process has no default handling of them."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
    return 0
