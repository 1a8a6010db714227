"""When a probe's answers count."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from netlab.api.core_types import Container, LifecycleHandler, Probe
from netlab.node.probes import Verdict, answers, port_number


@pytest.mark.parametrize(
    ("success", "failure", "initial", "answers", "changes"),
    [
        (1, 3, False, "+", {0: True}),
        (2, 3, False, "+-++", {3: True}),
        (1, 3, True, "--+---", {5: False}),
        (1, 3, True, "---+", {2: False, 3: True}),
        (1, 1, None, "-", {0: False}),
        (1, 3, True, "++", {}),
    ],
)
def test_thresholds(success: int, failure: int, initial: bool | None, answers: str, changes: dict[int, bool]) -> None:
    verdict = Verdict(success, failure, ok=initial)
    found = {i: verdict.ok for i, answer in enumerate(answers) if verdict.count(answer == "+")}
    assert found == changes


def answers_of(script: str, *, quick: bool, count: int) -> list[bool]:
    """The answers that count, of a container that answers as the script says and then well."""
    left = list(script)

    async def ask(action: Probe | LifecycleHandler, timeout: float) -> str:
        return "refused" if left and left.pop(0) == "-" else ""

    async def main() -> list[bool]:
        found = answers(Probe(periodSeconds=1000 if quick else 0), ask, quick=quick, initial=False)
        return [not (await asyncio.wait_for(anext(found), 10)).wrong for _ in range(count)]

    return asyncio.run(main())


def test_container_that_just_started_is_asked_again_soon_and_not_blamed() -> None:
    assert answers_of("---", quick=True, count=2) == [False, True]


def test_every_answer_counts_otherwise() -> None:
    assert answers_of("--+-", quick=False, count=5) == [False, False, True, False, True]


def test_ports_by_name() -> None:
    container = msgspec.convert({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}, Container)
    assert [port_number(container, port) for port in (80, "81", "web")] == [80, 81, 8080]
    with pytest.raises(ValueError, match="container c has no port named 'x'"):
        port_number(container, "x")
