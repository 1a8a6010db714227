"""A queue of keys for level-triggered controllers, with the semantics of client-go's workqueue."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable

from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.progress import Progress, Work
from netlab.backoff import Backoff
from netlab.errors import NetlabError

_RETRY = Backoff(first=0.01, last=30)
"""Before a failed key is retried."""

Failed = Callable[[str, Exception], Awaitable[None]]

_HOPELESS = 1.0
"""Seconds: with a longer back-off (after 2.5 s and 8 failures in a row) nobody waits for a key any more."""

log = logging.getLogger(__name__)


class WorkQueue:
    """Keys that wait for `reconcile`, each once, handled by one worker at a time.

    A key added while it is being processed is processed once more afterwards. A key whose reconciliation raises is
    retried with exponential back-off of its own and does not hold up other keys. With `min_interval` a key starts
    at most once in that many seconds: the first change is acted on at once, the burst behind it together.

    `progress` learns of what is `add`ed until that has been processed with success, or has failed again and again. What
    time alone makes due (`add_after`) does not count.
    """

    def __init__(
        self,
        name: str,
        *,
        min_interval: float = 0.0,
        progress: Progress | None = None,
        failed: Failed | None = None,
        rank: Callable[[str], int] = lambda _key: 0,
    ) -> None:
        """`failed` is called with a key and the error when that is more than a conflict or a server that is away.

        Of the keys that are ready the one with the lowest rank is processed first, and of the same rank the first.
        """
        self.name = name
        self._progress = progress or Progress()
        self._failed = failed
        self._min_interval = min_interval
        self._rank = rank
        self._ready: list[tuple[int, int, str]] = []  # a heap: rank, number, key
        self._numbers = itertools.count()
        self._dirty: set[str] = set()  # in `_ready`, or to be added when processing ends
        self._processing: set[str] = set()
        self._due: dict[str, Work] = {}  # of keys that were added, until they are processed
        self._timers: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._started: dict[str, float] = {}
        self._wakeup = asyncio.Event()

    def add(self, key: str) -> None:
        """Queue `key`, unless it is already waiting."""
        if key not in self._due:
            self._due[key] = self._progress.begin()
        if self._min_interval:
            wait = self._started.get(key, float("-inf")) + self._min_interval - asyncio.get_running_loop().time()
            if wait > 0:
                self.add_after(key, wait)
                return
        self._add_now(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Queue `key` in `seconds`, unless it is already due earlier."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        waiting = self._timers.get(key)
        if waiting is not None:
            due, timer = waiting
            if due <= at:
                return
            timer.cancel()
        self._timers[key] = at, loop.call_at(at, self._add_now, key)

    async def run(self, reconcile: Callable[[str], Awaitable[None]], workers: int = 1) -> None:
        """Process keys with `workers` tasks until cancelled; keys in process then count as not done."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(reconcile))
        finally:
            for key, (_, timer) in self._timers.items():
                timer.cancel()
                self._forget(self._due.pop(key, None))
            self._timers.clear()

    def _add_now(self, key: str) -> None:
        waiting = self._timers.pop(key, None)
        if waiting is not None:
            waiting[1].cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            heapq.heappush(self._ready, (self._rank(key), next(self._numbers), key))
            self._wakeup.set()

    async def _next(self) -> str:
        while not self._ready:
            self._wakeup.clear()
            await self._wakeup.wait()
        _, _, key = heapq.heappop(self._ready)
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    async def _work(self, reconcile: Callable[[str], Awaitable[None]]) -> None:
        while True:
            key = await self._next()
            if self._min_interval:
                self._note_start(key)
            failed, work = True, self._due.pop(key, None)
            try:
                failed = not await self._attempt(reconcile, key)
            finally:
                self._done(key, work, failed)

    async def _attempt(self, reconcile: Callable[[str], Awaitable[None]], key: str) -> bool:
        try:
            await reconcile(key)
        except (ApiError, ApiUnavailableError) as error:
            # A conflict means that the cache lagged, and a server that is down comes back: both are ordinary.
            ordinary = isinstance(error, ApiUnavailableError) or error.reason in ("Conflict", "AlreadyExists")
            log.log(logging.DEBUG if ordinary else logging.WARNING, "%s: %s: %s", self.name, key, error)
            if not ordinary:
                await self._tell(key, error)
        except NetlabError as error:
            log.warning("%s: %s: %s", self.name, key, error)
            await self._tell(key, error)
        except Exception as error:
            # A bug hit by one object must not stop the others.
            log.exception("%s: %s: reconciling failed", self.name, key)
            await self._tell(key, error)
        else:
            self._backoffs.pop(key, None)
            return True
        return False

    async def _tell(self, key: str, error: Exception) -> None:
        if self._failed is not None:
            await self._failed(key, error)

    def _done(self, key: str, work: Work | None, failed: bool) -> None:
        self._processing.discard(key)
        backoff = self._backoffs.get(key, _RETRY)
        if not failed:
            self._forget(work)
        elif backoff.delay > _HOPELESS:
            self._forget(work)
            self._forget(self._due.pop(key, None))
        elif work is not None:
            # It stands for what was added meanwhile, too: that comes after it.
            self._forget(self._due.pop(key, None))
            self._due[key] = work
        if key in self._dirty:
            # A key added meanwhile waits its turn, and a failing key its back-off, instead of spinning.
            self._dirty.discard(key)
            if not failed:
                self.add(key)
                return
        if failed:
            self._backoffs[key] = backoff = backoff.failed()
            self.add_after(key, backoff.delay)

    def _forget(self, work: Work | None) -> None:
        if work is not None:
            self._progress.end(work)

    def _note_start(self, key: str) -> None:
        moment = asyncio.get_running_loop().time()
        if len(self._started) > 4096:
            # Keys of deleted objects would stay forever.
            self._started = {k: t for k, t in self._started.items() if t + self._min_interval > moment}
        self._started[key] = moment
