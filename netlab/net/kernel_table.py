"""A table of nftables that one executor owns: programs make what is permanent, netlink what comes and goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from netlab.net.addresses import Family
from netlab.net.netlink import Message
from netlab.net.nftables.batch import Batch, messages
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.nftables.tables import Digests
from netlab.net.programs import ProgramError, Programs


class _Layout(Protocol):
    @property
    def family(self) -> Family: ...

    @property
    def ip(self) -> str: ...

    @property
    def ranges(self) -> frozenset[str]: ...


L = TypeVar("L", bound=_Layout)


class KernelTable(Generic[L]):
    """One family's table in the network namespace of the process; a base of executors.

    Every method may wait for the kernel, and raises ProgramError when it refuses.
    """

    def __init__(self, name: str, layout: L) -> None:
        self.family = layout.family
        self.batches = 0
        """How many batches the kernel has accepted from it: each makes a generation of the rules."""
        self._name = name
        self._layout = layout
        self._programs = Programs()
        self._digests: Digests = {}
        """Digests of the layout's chains, as they were made."""
        self._netlink: Nfnetlink | None = None

    def stop(self) -> None:
        """End what a method does in another thread, as far as it runs a program. Nothing may follow."""
        self._programs.stop()

    def _messages(self, batch: Batch) -> list[Message]:
        return messages(self._layout.ip, self._name, batch, self._layout.ranges)

    def _send(self, listed: Sequence[Message], generation: int = 0) -> None:
        with self._socket() as netlink:
            netlink.commit(listed, generation)
        self.batches += 1

    def _send_in_parts(self, batch: Batch) -> None:
        with self._socket() as netlink:
            self.batches += netlink.commit_in_parts(self._messages(batch))

    def _script(self, script: str) -> None:
        self._programs.run(["nft", "-f", "-"], script)
        self.batches += 1

    @contextlib.contextmanager
    def _socket(self) -> Iterator[Nfnetlink]:
        try:
            if self._netlink is None:
                self._netlink = Nfnetlink()
            yield self._netlink
        except OSError as error:
            # A late answer must not be taken for the answer to the next request.
            if self._netlink is not None:
                self._netlink.close()
                self._netlink = None
            raise ProgramError(f"table {self._layout.ip} {self._name}: the kernel refused a batch: {error}") from error


def number_of(error: ProgramError) -> int:
    """The kernel's error behind it; 0 if that is not known."""
    return error.__cause__.errno or 0 if isinstance(error.__cause__, OSError) else 0
