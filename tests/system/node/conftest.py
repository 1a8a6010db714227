"""A cluster that the tests of a module share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.system.machine.lab import Lab
from tests.system.node.cluster import Cluster

Play = Callable[[Callable[[Cluster], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Plays a scenario in a cluster whose node is ready, and where the scenarios before it left nothing."""
    with Lab() as lab, asyncio.Runner() as runner:
        cluster = Cluster(lab)
        runner.run(cluster.__aenter__())
        runner.run(cluster.ready())

        def play(scenario: Callable[[Cluster], Awaitable[None]]) -> None:
            async def main() -> None:
                try:
                    await scenario(cluster)
                except BaseException:
                    cluster.print_logs()
                    raise
                finally:
                    await cluster.remove_all()
                await cluster.nothing_left()

            runner.run(main())

        yield play
        runner.run(cluster.__aexit__(None, None, None))
