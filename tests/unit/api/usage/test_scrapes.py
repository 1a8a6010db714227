"""From what kubelets say at two moments to what was used between them; and when kubelets are asked."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from netlab.api.server import refusals
from netlab.api.server.usage import scrapes
from netlab.api.server.usage.sampler import Sampler
from netlab.api.server.usage.scrapes import Measured, Scrape, Used

TEXT = """\
# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 0.95 1796019285837
node_memory_working_set_bytes 6.9088256e+07 1796019285837
node_swap_usage_bytes 0.0 1796019285837
container_start_time_seconds{container="c",namespace="shop",pod="web"} 1.7960192839026194e+09
container_cpu_usage_seconds_total{container="c",namespace="shop",pod="web"} 0.63 1796019285837
container_memory_working_set_bytes{container="c",namespace="shop",pod="web"} 1.31072e+06 1796019285837
pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 0.63 1796019285837
container_cpu_usage_seconds_total{container="c" not a line
container_memory_working_set_bytes{container="d",namespace="shop",pod="web"} many
"""
WEB = ("shop", "web", "c")


def test_a_text_of_a_kubelet() -> None:
    found = scrapes.read(TEXT)
    assert found.node == Used(1796019285.837, 0.95, 69088256)
    assert found.containers == {WEB: Used(1796019285.837, 0.63, 1310720, 1796019283.9026194)}


def at(moment: float) -> Scrape:
    return Scrape(Used(moment, 0, 0))


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([100.0], None, id="itself"),
        pytest.param([99.5], None, id="too young"),
        pytest.param([20.0], None, id="too old"),
        pytest.param([45.0, 82.0, 97.0, 99.9], 82.0, id="the nearest to metrics-server's"),
        pytest.param([20.0, 99.0], 99.0, id="of the right age"),
    ],
)
def test_with_which_scrape_one_is_compared(kept: list[float], expected: float | None) -> None:
    found = scrapes.baseline(at(100.0), map(at, kept))
    assert (found and found.node.moment) == expected


NOW = Used(100.0, 8.0, 4096, started_at=60.0)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(Used(90.0, 3.0, 1, 60.0), Measured(100.0, 10.0, 0.5, 4096), id="meanwhile"),
        pytest.param(None, Measured(100.0, 40.0, 0.2, 4096), id="since its start"),
        pytest.param(Used(90.0, 3.0, 1, 50.0), Measured(100.0, 40.0, 0.2, 4096), id="started again"),
        pytest.param(Used(90.0, 9.0, 1, 60.0), Measured(100.0, 40.0, 0.2, 4096), id="a counter that went back"),
        pytest.param(Used(90.0, None, 1, 60.0), Measured(100.0, 40.0, 0.2, 4096), id="nothing known before"),
        pytest.param(Used(100.0, 8.0, 1, 60.0), None, id="at the same moment"),
    ],
)
def test_what_was_used(before: Used | None, expected: Measured | None) -> None:
    assert scrapes.measured(NOW, before) == expected


@pytest.mark.parametrize("now", [Used(100.0, None, 1, 60.0), Used(100.0, 1.0, None, 60.0), Used(100.0, 1.0, 1)])
def test_of_what_only_half_is_known_nothing_is_said(now: Used) -> None:
    assert scrapes.measured(now, None) is None


def test_kubelets_are_asked_twice_the_first_time_and_those_that_do_not_answer_are_left_out() -> None:
    asked: Counter[str] = Counter()

    async def ask(node: str, path: str) -> bytes:
        asked[node] += 1
        if node == "down":
            raise refusals.service_unavailable("no route to host")
        return f"node_cpu_usage_seconds_total {asked[node]} {asked[node] * 2000}\n".encode()

    async def both() -> None:
        sampler = Sampler(ask)
        # Two who ask at once wait for the same.
        first, second = await asyncio.gather(sampler.sample(["up", "down"]), sampler.sample(["up"]))
        assert first.keys() == second.keys() == {"up"}
        now, before = first["up"]
        assert (now.node.cpu, before.node.cpu) == (2.0, 1.0)
        assert asked["up"] == 2

    asyncio.run(both())
