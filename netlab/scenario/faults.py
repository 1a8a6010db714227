"""Deliberate faults, each with the step that undoes it, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from netlab.errors import NetlabError, NotFoundError
from netlab.scenario.interruption import uninterrupted


class Fault:
    """Something that is broken until `undo`, or until the end of its `with` block."""

    def __init__(self, what: str, undo: Callable[[], object]) -> None:
        self._what = what
        self._undo = undo
        self.undone = False

    def __str__(self) -> str:
        return self._what

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.undo()

    def undo(self) -> None:
        """Repair it; an interruption waits until that is done. May be called again.

        The host of the fault may be gone by now, and the fault with it. Raises `NetlabError` when the step fails: the
        fault is then not undone, and `undo` can be tried again.
        """
        if self.undone:
            return
        with uninterrupted():
            with contextlib.suppress(NotFoundError):
                self._undo()
            self.undone = True


class Faults:
    """All faults that were made, in order."""

    def __init__(self) -> None:
        self._made: list[Fault] = []

    def make(self, what: str, do: Callable[[], object], undo: Callable[[], object]) -> Fault:
        """Break something with `do`, to be repaired by `undo`; `what` names it in messages.

        An interruption waits until the fault is registered here. Raises what `do` raises, after trying to undo what it
        may have done.
        """
        fault = Fault(what, undo)
        with uninterrupted():
            try:
                do()
            except BaseException:
                with contextlib.suppress(NetlabError):
                    undo()
                raise
            self._made.append(fault)
        return fault

    def undo_all(self) -> None:
        """Undo the remaining faults, the last one first; a failure does not stop the others.

        Raises `NetlabError` naming every fault that is still there.
        """
        failed = []
        with uninterrupted():
            for fault in reversed(self._made):
                try:
                    fault.undo()
                except Exception as error:
                    failed.append(f"{fault}: {error}")
            self._made = [fault for fault in self._made if not fault.undone]
        if failed:
            raise NetlabError(
                f"not undone: {'; '.join(failed)}. This part of the lab stays broken until repaired by hand, or by "
                "`netlab down` and `netlab up`"
            )
