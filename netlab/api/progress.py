"""Up to which revision of the API a component has acted upon what it has seen.

An informer says what it has seen. Acting upon it takes time: a queue, a sync, an answer of the kernel. `Progress`
relates the two, at a cost that does not depend on how much is waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from netlab.api.informer import Informer


class Work:
    """The work that became due between two revisions. Opaque: `Progress.begin` gives it, `Progress.end` takes it."""

    __slots__ = ("_revision", "_unfinished")

    def __init__(self) -> None:
        self._unfinished = 0
        self._revision = 0
        """All work that is due because of this revision, or an earlier one, is in this batch or in an earlier one."""


class Progress:
    """Follows informers and the work that their changes make due.

    Call `begin` from an informer's handler for each piece of work that a change makes due, and `end` when it is done.
    `tell` is called with the revision up to which everything has been acted upon, whenever that has grown.
    """

    def __init__(self, tell: Callable[[int], None] = lambda _: None) -> None:
        self.acted = 0
        """The resourceVersion up to which everything has been acted upon; 0: nothing has been."""
        self._tell = tell
        self._seen = 0
        self._batches = deque([Work()])

    def follow(self, informers: Sequence[Informer[Any]]) -> None:
        """Take what all of these informers have seen for what has been seen. Call it before they run."""
        for informer in informers:
            informer.on_progress(lambda: self.seen(min(each.revision for each in informers)))

    def seen(self, revision: int) -> None:
        """Every change up to a revision has been seen, and the work that it makes due has begun."""
        if revision == self._seen:
            return
        self._seen = revision
        newest = self._batches[-1]
        if newest._unfinished:
            newest._revision = revision
            self._batches.append(Work())
        elif len(self._batches) > 1:
            # Nothing has become due since, so what is unfinished stands for this revision, too.
            self._batches[-2]._revision = revision
        else:
            self._act(revision)

    def begin(self) -> Work:
        """A piece of work is due."""
        newest = self._batches[-1]
        newest._unfinished += 1
        return newest

    def end(self, work: Work) -> None:
        """A piece of work is done."""
        work._unfinished -= 1
        revision = 0
        while len(self._batches) > 1 and not self._batches[0]._unfinished:
            revision = self._batches.popleft()._revision
        if revision:
            self._act(revision)

    def _act(self, revision: int) -> None:
        if revision > self.acted:
            self.acted = revision
            self._tell(revision)
