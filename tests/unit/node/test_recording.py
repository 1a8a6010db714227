"""Events of pods: in order, and not too many."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Event, Pod
from netlab.api.errors import ApiUnavailableError
from netlab.node import recording
from netlab.node.recording import Allowance, EventRecorder

CONTAINERS = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}], "ephemeralContainers": [{"name": "e"}]}
POD = msgspec.convert({"metadata": {"name": "p", "uid": "u"}, "spec": CONTAINERS}, Pod)


class Server:
    """An API server that is away when it is first asked."""

    def __init__(self, wanted: int) -> None:
        self.away = True
        self.wanted = wanted
        self.got: list[Event] = []
        self.done = asyncio.Event()

    async def create(self, resource: Any, event: Event) -> None:
        if self.away:
            self.away = False
            raise ApiUnavailableError("away")
        self.got.append(event)
        if len(self.got) == self.wanted:
            self.done.set()


async def _sent(wanted: int, *recorded: tuple[str, str], patience: float = 60) -> list[Event]:
    server = Server(wanted)
    recorder = EventRecorder(server, "node-1")  # type: ignore[arg-type]
    for reason, container in recorded:
        recorder.record(POD, "Normal", reason, "said", container)
    sending = asyncio.create_task(recorder.run())
    await asyncio.wait_for(server.done.wait(), patience)
    sending.cancel()
    return server.got


def test_events_come_in_order_and_name_the_container() -> None:
    found = asyncio.run(_sent(4, ("Scheduled", ""), ("Pulled", "i"), ("Started", "c"), ("Killing", "e")))
    assert [(each.reason, each.involvedObject.fieldPath) for each in found] == [
        ("Scheduled", ""),
        ("Pulled", "spec.initContainers{i}"),
        ("Started", "spec.containers{c}"),
        ("Killing", "spec.ephemeralContainers{e}"),
    ]
    assert {(each.source.component, each.source.host) for each in found} == {("kubelet", "node-1")}


def test_a_pod_that_has_too_much_to_say_is_not_heard() -> None:
    found = asyncio.run(_sent(25, *((f"R{number}", "") for number in range(40))))
    assert [each.reason for each in found] == [f"R{number}" for number in range(25)]


@pytest.mark.parametrize(
    ("quiet", "longest", "are_sent"),
    [(0.01, 1e6, True), (1e6, 0.01, True), (1e6, 1e6, False)],
    ids=["it is quiet", "others keep coming", "neither"],
)
def test_a_burst_is_sent_when_it_is_over_or_lasts_long(
    quiet: float, longest: float, are_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_QUIET", quiet)
    monkeypatch.setattr(recording, "_LONGEST_WAIT", longest)
    sending = _sent(2, ("Pulled", "c"), ("Started", "c"), patience=60 if are_sent else 0.2)
    if are_sent:
        assert len(asyncio.run(sending)) == 2
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(sending)


def test_an_allowance_comes_back() -> None:
    allowance = Allowance(2, 0.5, now=100.0)
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(102.0) for _ in range(2)] == [True, False]
    assert [allowance.reserve(1000.0) for _ in range(4)] == [0.0, 0.0, 2.0, 4.0]
