"""Running programs that change the kernel's tables, and noticing when others change them."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence

from netlab.errors import NetlabError, UnsupportedError
from netlab.net.nftables.socket import Nfnetlink

FRESH_GENERATION = 1
"""The generation of a network namespace in which no rule was ever changed."""


class ProgramError(NetlabError):
    """A program that changes the kernel's tables failed; none of its batch is in force."""


class Programs:
    """Runs programs that change the kernel's tables, one at a time."""

    def __init__(self) -> None:
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, argv: Sequence[str], text: str = "") -> str:
        """Run a program with `text` as its input; returns its output.

        Raises ProgramError with its complaint, UnsupportedError if it is not installed.
        """
        pipe = subprocess.PIPE
        try:
            program = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            raise UnsupportedError(f"{argv[0]} is not installed: install the package nftables or iptables") from None
        with program:
            self._running = program
            if self._stopped:
                program.kill()
            output, complaint = program.communicate(text.encode())
        if program.returncode != 0:
            said = " ".join(complaint.decode(errors="replace").split())[:500]
            raise ProgramError(f"{' '.join(argv)} failed with status {program.returncode}: {said}")
        return output.decode()

    def stop(self) -> None:
        """End the program that is running in another thread, and run no more.

        The kernel applies a batch whole or not at all, so its sender may be killed at any moment.
        """
        self._stopped = True
        if self._running is not None:
            self._running.kill()


def generation() -> int:
    """The number of the nftables ruleset of this network namespace: every change by any process increments it.

    iptables-nft changes it too. Raises UnsupportedError when the kernel has no nftables.
    """
    try:
        with Nfnetlink() as netlink:
            return netlink.generation()
    except OSError as error:
        if error.errno == errno.EPROTO:
            raise UnsupportedError(
                "the kernel's nftables generation has an unknown form; Linux 5.13 or newer is needed"
            ) from None
        raise UnsupportedError(
            f"the kernel does not answer nftables requests: {error.strerror}; load the module nf_tables"
        ) from None
