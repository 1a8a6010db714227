"""Probes the containers of one pod, and acts on the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from netlab.api.core_types import Container, Probe
from netlab.node import probes
from netlab.node.context import PodContext
from netlab.node.podstate import SYNC, Run


class Probing:
    """The probes of a pod's running containers: a task for each container that has any."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, spec: Container) -> None:
        """Probe a container that has started, until it ends."""
        if spec.startupProbe or spec.livenessProbe or spec.readinessProbe:
            self._tasks[spec.name] = self._context.spawn(self._keep_probing(spec, self._context.state.run(spec.name)))

    def stop(self, name: str) -> None:
        """Stop probing a container."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()

    async def _keep_probing(self, spec: Container, run: Run) -> None:
        backoff, clock = SYNC, asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._probe(spec, run)
            except Exception as error:
                self._context.failed(error)
            backoff = backoff.failed(clock() - began)
            await asyncio.sleep(backoff.delay)

    async def _probe(self, spec: Container, run: Run) -> None:
        ask = self._context.asker(spec)
        if spec.startupProbe is not None and not run.started:
            await self._follow_startup(spec, spec.startupProbe, ask, run)
            run.started, run.ready = True, spec.readinessProbe is None
            self._context.reporter.report()
            self._context.wake.set()  # a sidecar's successors wait for it
        async with asyncio.TaskGroup() as tasks:
            if spec.livenessProbe is not None:
                tasks.create_task(self._follow_liveness(spec, spec.livenessProbe, ask, run))
            if spec.readinessProbe is not None:
                tasks.create_task(self._follow_readiness(spec, spec.readinessProbe, ask, run))

    async def _follow_startup(self, spec: Container, probe: Probe, ask: probes.Ask, run: Run) -> None:
        """Probe until the container has started."""
        async for answer in self._answers(spec, "Startup", probes.answers(probe, ask, quick=True, initial=None)):
            if not answer.wrong and answer.changed:
                return
            self._count_against(spec, run, "Startup", probe, answer)

    async def _follow_liveness(self, spec: Container, probe: Probe, ask: probes.Ask, run: Run) -> None:
        async for answer in self._answers(spec, "Liveness", probes.answers(probe, ask, quick=False, initial=True)):
            self._count_against(spec, run, "Liveness", probe, answer)

    async def _follow_readiness(self, spec: Container, probe: Probe, ask: probes.Ask, run: Run) -> None:
        answers = probes.answers(probe, ask, quick=not run.ready, initial=run.ready)
        async for answer in self._answers(spec, "Readiness", answers):
            if answer.wrong:
                self._unhealthy(spec, "Readiness", answer)
            if answer.changed:
                run.ready = not answer.wrong
                self._context.reporter.report()

    async def _answers(
        self, spec: Container, kind: str, answers: AsyncIterator[probes.Answer]
    ) -> AsyncIterator[probes.Answer]:
        """The same answers, counted."""
        async for answer in answers:
            self._context.state.probed[spec.name, kind, "failed" if answer.wrong else "successful"] += 1
            yield answer

    def _count_against(self, spec: Container, run: Run, kind: str, probe: Probe, answer: probes.Answer) -> None:
        """A container that keeps failing must be restarted."""
        if not answer.wrong:
            return
        self._unhealthy(spec, kind, answer)
        if answer.changed:
            run.unhealthy = f"Container {spec.name} failed {kind.lower()} probe"
            run.grace = probe.terminationGracePeriodSeconds
            self._context.wake.set()

    def _unhealthy(self, spec: Container, kind: str, answer: probes.Answer) -> None:
        self._context.event("Unhealthy", f"{kind} probe failed: {answer.wrong}", container=spec.name)
