"""Who is told of what: the hub, fed by a real store."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from netlab.api import selectors
from netlab.api.resources import PODS
from netlab.api.server.objects import field_selectors
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage import watch
from netlab.api.server.storage.watch import Change, Selection, Watch, Wording
from tests.unit.api.cluster import create, pod, refused, update

_RESOURCE: Any = PODS


def _events(opened: Watch) -> list[tuple[str, str, str]]:
    """(type, name, phase) of the lines that wait."""

    async def take() -> bytes:
        return await opened.take() if opened.waiting else b""

    lines = asyncio.run(take()).splitlines()
    decoded = [msgspec.json.decode(line) for line in lines]
    return [
        (event["type"], event["object"]["metadata"]["name"], event["object"]["status"]["phase"]) for event in decoded
    ]


def _labelled(name: str, **labels: str) -> dict[str, Any]:
    return pod() | {"metadata": {"name": name, "labels": labels}}


def _phase(registry: Registry, name: str, phase: str) -> None:
    present = registry.get(_RESOURCE, "default", name).decode()
    update(registry, PODS, present | {"status": {"phase": phase}}, "status")


def test_live_and_replayed_are_the_same(registry: Registry) -> None:
    hub = registry.store.hub
    since = hub.revision
    live = hub.watch("pods", Selection(), since)
    create(registry, PODS, pod("a"))
    _phase(registry, "a", "Running")
    registry.delete(_RESOURCE, "default", "a", DeleteOptions())
    expected = [("ADDED", "a", "Pending"), ("MODIFIED", "a", "Running"), ("DELETED", "a", "Running")]
    assert _events(live) == expected
    assert _events(hub.watch("pods", Selection(), since)) == expected
    assert _events(hub.watch("pods", Selection(), since + 2)) == expected[2:]
    assert _events(hub.watch("pods", Selection(), since + 3)) == []


def test_entering_and_leaving_the_selection(registry: Registry) -> None:
    hub = registry.store.hub
    running = Selection("default", fields=field_selectors.parse("status.phase=Running", PODS))
    web = Selection("", labels=selectors.parse("app=web"))
    by_phase, by_label = hub.watch("pods", running, hub.revision), hub.watch("pods", web, hub.revision)
    create(registry, PODS, _labelled("a", app="db"))
    _phase(registry, "a", "Running")
    present = registry.get(_RESOURCE, "default", "a").decode()
    present["metadata"]["labels"] = {"app": "web"}
    update(registry, PODS, present)
    _phase(registry, "a", "Failed")
    registry.delete(_RESOURCE, "default", "a", DeleteOptions())
    assert _events(by_phase) == [("ADDED", "a", "Running"), ("MODIFIED", "a", "Running"), ("DELETED", "a", "Running")]
    assert _events(by_label) == [("ADDED", "a", "Running"), ("MODIFIED", "a", "Failed"), ("DELETED", "a", "Failed")]


def test_leaving_carries_the_revision_of_the_leaving(registry: Registry) -> None:
    hub = registry.store.hub
    create(registry, PODS, pod("a"))
    pending = Selection(fields=field_selectors.parse("status.phase=Pending", PODS))
    opened = hub.watch("pods", pending, hub.revision)
    _phase(registry, "a", "Running")
    line = msgspec.json.decode(asyncio.run(opened.take()))
    assert line["type"] == "DELETED"
    assert line["object"]["metadata"]["resourceVersion"] == str(hub.revision)


def test_other_namespaces_and_resources_are_not_told(registry: Registry) -> None:
    hub = registry.store.hub
    elsewhere = hub.watch("pods", Selection("kube-system"), hub.revision)
    nodes = hub.watch("nodes", Selection(), hub.revision)
    create(registry, PODS, pod("a"))
    assert _events(elsewhere) == _events(nodes) == []


def test_watchers_share_the_bytes(registry: Registry) -> None:
    hub = registry.store.hub
    create(registry, PODS, pod("a"))
    _phase(registry, "a", "Running")
    event = hub.recent("pods")[-1]
    change = event.change_for(Selection())
    assert change is not None
    assert change is event.change_for(Selection("default"))
    assert change.line is change.line
    assert registry.get(_RESOURCE, "default", "a").raw in change.line


def test_what_is_no_longer_known_has_expired(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HISTORY", 5)
    hub = registry.store.hub
    start = hub.revision
    for number in range(10):
        create(registry, PODS, pod(f"p{number}"))
    with refused(410, "too old resource version"):
        hub.watch("pods", Selection(), start)
    assert len(_events(hub.watch("pods", Selection(), hub.revision - 5))) == 5
    with refused(410):
        hub.watch("pods", Selection(), hub.revision + 1)


def test_a_slow_reader_is_dropped_and_can_go_on(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKLOG", 3)
    hub = registry.store.hub
    slow = hub.watch("pods", Selection(), hub.revision)
    for number in range(6):
        create(registry, PODS, pod(f"p{number}"))
    assert slow.closed
    lines = asyncio.run(slow.take()).splitlines()
    last = msgspec.json.decode(lines[-1])["object"]["metadata"]
    assert [msgspec.json.decode(line)["object"]["metadata"]["name"] for line in lines] == ["p0", "p1", "p2"]
    rest = _events(hub.watch("pods", Selection(), int(last["resourceVersion"])))
    assert [name for _, name, _ in rest] == ["p3", "p4", "p5"]


def test_what_waits_is_taken_in_parts(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AT_A_TIME", 2)
    hub = registry.store.hub
    opened = hub.watch("pods", Selection(), hub.revision)
    for number in range(5):
        create(registry, PODS, pod(f"p{number}"))
    parts = []
    while opened.waiting:
        parts.append([name for _, name, _ in _events(opened)])
    assert parts == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    create(registry, PODS, pod("q"))
    opened.close()
    assert not opened.drained
    assert [name for _, name, _ in _events(opened)] == ["q"]
    assert opened.drained


def test_only_its_own_reader_waits_for_how_a_watch_is_written(registry: Registry) -> None:
    def fail(change: Change) -> bytes:
        raise ValueError("it cannot be written")

    hub = registry.store.hub
    opened = hub.watch("pods", Selection(), hub.revision, Wording(fail))
    create(registry, PODS, pod("a"))
    with pytest.raises(ValueError, match="cannot be written"):
        asyncio.run(opened.take())


def test_a_closed_watch_yields_what_waits_and_then_nothing(registry: Registry) -> None:
    hub = registry.store.hub
    opened = hub.watch_from_now("pods", Selection(), [])
    create(registry, PODS, pod("a"))
    hub.close()
    create(registry, PODS, pod("b"))
    assert b'"name":"a"' in asyncio.run(opened.take())
    assert asyncio.run(opened.take()) == b""


def _bookmarks(opened: Watch) -> list[int]:
    async def take() -> bytes:
        return await opened.take() if opened.waiting else b""

    events = [msgspec.json.decode(line) for line in asyncio.run(take()).splitlines()]
    return [event["object"] for event in events if event["type"] == "BOOKMARK"]


def test_who_asks_for_progress_has_those_told_who_want_bookmarks_and_do_not_know(registry: Registry) -> None:
    hub = registry.store.hub

    wording = Wording(bookmark=lambda revision: Change(b"BOOKMARK", b"%d" % revision))

    since = hub.revision
    idle = hub.watch("services", Selection(), since, wording)
    busy = hub.watch("pods", Selection(), since, wording)
    deaf = hub.watch("services", Selection(), since)
    assert hub.progress() == since
    assert not idle.waiting, "nothing has happened since it was opened"
    create(registry, PODS, pod("a"))
    assert hub.progress() == since + 1
    hub.progress()
    assert _bookmarks(idle) == [since + 1]
    assert _bookmarks(busy) == [], "it has the change itself"
    assert not deaf.waiting
    create(registry, PODS, pod("b"))
    assert not idle.waiting, "without a question nothing is sent"
