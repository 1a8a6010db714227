"""The queue's promises: once per key, one worker per key, back-off per key, bursts together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from netlab.api.errors import ApiError
from netlab.api.meta_types import Status
from netlab.api.progress import Progress
from netlab.controlplane.workqueue import WorkQueue


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def work(queue: WorkQueue, reconcile: Callable[[str], Awaitable[None]], script: Awaitable[None]) -> None:
    runner = asyncio.create_task(queue.run(reconcile, 3))
    try:
        await script
    finally:
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)


def test_a_key_that_waits_is_not_queued_twice() -> None:
    done: list[str] = []

    async def reconcile(key: str) -> None:
        done.append(key)

    async def main() -> None:
        queue = WorkQueue("test")
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        await work(queue, reconcile, until(lambda: len(done) == 2))
        assert done == ["a", "b"]

    asyncio.run(main())


def test_a_key_added_while_processed_is_processed_again_and_never_at_once() -> None:
    running: list[str] = []
    most, rounds = 0, 0
    gate = asyncio.Event()

    async def reconcile(key: str) -> None:
        nonlocal most, rounds
        running.append(key)
        most = max(most, len(running))
        await gate.wait()
        running.remove(key)
        rounds += 1

    async def main() -> None:
        queue = WorkQueue("test")
        queue.add("a")

        async def script() -> None:
            await until(lambda: bool(running))
            queue.add("a")
            queue.add("a")
            gate.set()
            await until(lambda: rounds == 2)

        await work(queue, reconcile, script())
        assert (most, rounds) == (1, 2)

    asyncio.run(main())


@pytest.mark.parametrize("error", [ApiError(Status(reason="Conflict", code=409)), ValueError("a bug")])
def test_a_key_that_fails_is_retried_while_others_go_on(error: Exception) -> None:
    attempts: list[str] = []

    async def reconcile(key: str) -> None:
        attempts.append(key)
        if key == "bad" and attempts.count("bad") < 4:
            raise error

    async def main() -> None:
        queue = WorkQueue("test")
        queue.add("bad")
        queue.add("good")
        await work(queue, reconcile, until(lambda: attempts.count("bad") == 4))
        assert attempts.count("good") == 1

    asyncio.run(main())


def test_a_burst_is_one_round_after_the_first() -> None:
    rounds: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def reconcile(_: str) -> None:
            rounds.append(loop.time())

        progress = Progress()
        queue = WorkQueue("test", min_interval=0.2, progress=progress)
        queue.add("a")

        async def script() -> None:
            await until(lambda: len(rounds) == 1)
            for _ in range(100):
                queue.add("a")
            progress.seen(1)
            await until(lambda: progress.acted == 1)

        await work(queue, reconcile, script())
        assert len(rounds) == 2
        assert rounds[1] - rounds[0] >= 0.2

    asyncio.run(main())


def test_a_sooner_time_replaces_a_later_one() -> None:
    async def main() -> None:
        done: list[str] = []

        async def reconcile(key: str) -> None:
            done.append(key)

        queue = WorkQueue("test")
        queue.add_after("a", 3600)
        queue.add_after("a", 0.01)
        queue.add_after("a", 3600)
        await work(queue, reconcile, until(lambda: done == ["a"]))

    asyncio.run(main())


def test_progress_waits_for_what_was_added_and_for_what_fails_a_few_times() -> None:
    attempts: list[str] = []
    gate = asyncio.Event()

    async def reconcile(key: str) -> None:
        attempts.append(key)
        await gate.wait()
        if attempts.count("a") < 3:
            raise ApiError(Status(reason="Conflict", code=409))

    async def main() -> None:
        progress = Progress()
        queue = WorkQueue("test", progress=progress)
        queue.add("a")
        progress.seen(5)
        queue.add_after("b", 60)  # what time alone makes due holds nothing back
        assert progress.acted == 0

        async def script() -> None:
            await until(lambda: attempts == ["a"])
            queue.add("a")
            progress.seen(6)
            gate.set()
            await until(lambda: progress.acted == 6)
            assert attempts.count("a") >= 3

        await work(queue, reconcile, script())

    asyncio.run(main())


def test_progress_does_not_wait_for_what_is_hopeless() -> None:
    async def reconcile(key: str) -> None:
        raise ApiError(Status(reason="Forbidden", code=403))

    async def main() -> None:
        progress = Progress()
        queue = WorkQueue("test", progress=progress)
        queue.add("a")
        progress.seen(5)
        await work(queue, reconcile, until(lambda: progress.acted == 5))

    asyncio.run(main())
