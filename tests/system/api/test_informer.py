"""The informer over a real network: an old server, pages, a history that is short, refusals and silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api import client as client_module
from netlab.api import informer as informer_module
from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.api.discovery_types import EndpointSlice
from netlab.api.errors import ApiUnavailableError
from netlab.api.informer import Informer
from netlab.api.resources import ENDPOINTSLICES
from netlab.backoff import Backoff
from tests.system.api import secure
from tests.system.api.secure import Guard, OldServer, listening

LIMIT = 60.0


def slice_of(name: str, *addresses: str, **changes: Any) -> dict[str, Any]:
    endpoints = [{"addresses": [each], "topology": {"kubernetes.io/hostname": "node-1"}} for each in addresses]
    meta = {"name": name, "namespace": "default", "creationTimestamp": None, "resourceVersion": "1"}
    return {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints or None, "ports": None} | changes


class Following:
    """An informer of an old server's slices, and what it told."""

    def __init__(self, server: OldServer, guard: Guard, client: Client) -> None:
        self.server = server
        self.guard = guard
        self.informer = Informer(client, ENDPOINTSLICES, labels="!headless")
        self.told: list[tuple[str | None, str | None]] = []
        self.informer.on_change(self._note)

    def _note(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        self.told.append((old.metadata.name if old else None, new.metadata.name if new else None))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def holds(self, *names: str) -> None:
        """Wait until the informer has these and no others."""
        await self.until(lambda: set(self.informer.items) == {f"default/{name}" for name in names})

    def lists(self) -> list[dict[str, str]]:
        return [params for params in self.guard.queries("endpointslices") if "watch" not in params]

    def watches(self) -> list[dict[str, str]]:
        return [params for params in self.guard.queries("endpointslices") if "watch" in params]


def follow(
    folder: Path, body: Callable[[Following], Awaitable[None]], *, version: str = "v1beta1", slices: int = 3
) -> None:
    async def live() -> None:
        server = OldServer(version)
        for number in range(slices):
            server.items[f"s{number}"] = slice_of(f"s{number}", f"10.0.0.{number}")
        guard = Guard(server)
        async with asyncio.timeout(LIMIT), listening(guard) as port:
            endpoint = kubeconfig.load(secure.kubeconfig(folder / "config", {"server": f"http://127.0.0.1:{port}"}))
            async with Client(endpoint) as client:
                following = Following(server, guard, client)
                running = asyncio.create_task(following.informer.run())
                await following.informer.synced.wait()
                await body(following)
                assert not running.done()
                running.cancel()

    asyncio.run(live())


def test_an_old_server_is_asked_for_what_it_serves(tmp_path: Path) -> None:
    async def body(following: Following) -> None:
        await following.holds("s0", "s1", "s2")
        assert [path for path, _, _ in following.guard.asked[:2]] == [
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/apis/discovery.k8s.io/v1beta1/endpointslices",
        ]
        assert following.informer.items["default/s1"].endpoints[0].nodeName == "node-1"
        await following.server.tell("MODIFIED", slice_of("s1"))
        await following.until(lambda: not following.informer.items["default/s1"].endpoints)

        # It is upgraded: v1beta1 is no more.
        following.server.version = "v1"
        await following.server.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        following.server.items["new"] = slice_of("new")
        await following.holds("s0", "s1", "s2", "new")
        assert following.guard.asked[-1][0].startswith("/apis/discovery.k8s.io/v1/")

    follow(tmp_path, body)


def test_a_first_list_may_be_old_and_a_later_one_may_not(tmp_path: Path) -> None:
    async def body(following: Following) -> None:
        (first,) = following.lists()
        assert (first["resourceVersion"], first["limit"]) == ("0", "500")
        await following.until(following.watches)
        watch = following.watches()[0]
        assert watch["allowWatchBookmarks"] == "true"
        assert watch["labelSelector"] == "!headless"
        assert 300 <= int(watch["timeoutSeconds"]) <= 600

        del following.server.items["s0"]  # nobody was told
        await following.server.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        await following.holds("s1", "s2")
        assert "resourceVersion" not in following.lists()[1], "a consistent read"
        assert following.told[-1] == ("s0", None)
        assert len(following.told) == 4, "of those that did not change nothing is told"

    follow(tmp_path, body, version="v1")


def test_bookmarks_save_what_would_have_expired(tmp_path: Path) -> None:
    async def body(following: Following) -> None:
        await following.until(following.watches)
        server = following.server
        server.revision = 500
        meta = {"metadata": {"name": "", "resourceVersion": "501", "creationTimestamp": None}}
        server.items, kept = {}, server.items
        await server.tell("BOOKMARK", meta | {"kind": "EndpointSlice"})
        server.items = kept
        # An end that says nothing of the version: it goes on from the bookmark's.
        await server.tell("ERROR", {"kind": "Status", "code": 503, "reason": "ServiceUnavailable"})
        await following.until(lambda: len(following.watches()) > 1)
        assert following.watches()[1]["resourceVersion"] == "501"
        assert len(following.lists()) == 1

    follow(tmp_path, body, version="v1")


def test_a_server_that_was_restored_gives_old_versions_anew(tmp_path: Path) -> None:
    async def body(following: Following) -> None:
        server = following.server
        server.items = {"s1": slice_of("s1", "10.9.9.9"), "s2": server.items["s2"]}
        server.revision = 5
        await server.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        await following.holds("s1", "s2")
        await following.until(lambda: following.informer.items["default/s1"].endpoints[0].addresses == ["10.9.9.9"])
        assert following.told[3:] == [("s0", None), ("s1", "s1")]

    follow(tmp_path, body, version="v1")


@pytest.mark.parametrize("expire", [False, True])
def test_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expire: bool) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)

    async def body(following: Following) -> None:
        assert set(following.informer.items) == {f"default/s{number}" for number in range(5)}
        following.guard.asked.clear()
        following.server.pages_expire = expire
        del following.server.items["s4"]
        await following.server.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        await following.holds("s0", "s1", "s2", "s3")
        first, second, *rest = following.lists()
        assert (first["limit"], second["continue"]) == ("2", "2")
        assert [("limit" in params) for params in rest] == ([False] if expire else []), "all at once, if pages expire"

    follow(tmp_path, body, version="v1", slices=5)


REFUSALS = {
    "401": ((401, b'{"kind":"Status","code":401,"message":"Unauthorized"}', {}), False),
    "403": ((403, b'{"kind":"Status","code":403,"message":"forbidden"}', {}), False),
    "429": ((429, b"Too many requests, please try again later.\n", {"retry_after": "1"}), False),
    "500": ((500, b'{"kind":"Status","code":500,"message":"etcd"}', {}), True),
    "503": ((503, b"<html>\nno backend", {}), False),
    "a version of the future": (
        (504, b'{"kind":"Status","code":504,"reason":"Timeout","message":"Too large resource version"}', {}),
        True,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_watch_that_is_refused(tmp_path: Path, name: str) -> None:
    refusal, lists_again = REFUSALS[name]

    async def body(following: Following) -> None:
        await following.until(following.watches)
        following.server.refuse = [refusal] * 2
        # As when a server ends a watch in good order: the next one is refused.
        await following.server.tell("ERROR", {"kind": "Status", "code": 503, "message": "going down"})
        await following.until(lambda: not following.server.refuse)
        await following.server.tell("ADDED", slice_of("late"))
        await following.holds("s0", "s1", "s2", "late")
        assert (len(following.lists()) > 1) == lists_again

    follow(tmp_path, body, version="v1")


def test_a_watch_that_ends_at_once_is_not_asked_for_without_a_pause(tmp_path: Path) -> None:
    async def body(following: Following) -> None:
        await following.until(following.watches)
        following.server.refuse = [(200, b"", {})] * 1000
        loop = asyncio.get_running_loop()
        began, before = loop.time(), len(following.watches())
        await following.server.tell("ERROR", {"kind": "Status", "code": 503})
        await following.until(lambda: len(following.watches()) >= before + 5)
        # 0.05, 0.1, 0.2, 0.4 and 0.8 s, of which each may be half.
        assert loop.time() - began >= 1.55 / 2

    follow(tmp_path, body, version="v1")


def test_an_object_that_can_no_longer_be_read_stays_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(following: Following) -> None:
        items = following.informer.items
        await following.server.tell("MODIFIED", slice_of("s1", endpoints=[{"addresses": "all"}]))
        await following.server.tell("ADDED", slice_of("odd", endpoints=3))
        await following.server.tell("ADDED", slice_of("good"))
        await following.holds("s0", "s1", "s2", "good")
        assert items["default/s1"].endpoints[0].addresses == ["10.0.0.1"]
        # Listed, it is as unreadable as before, which was said; and it stays.
        await following.server.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        await following.server.tell("ADDED", slice_of("more"))
        await following.holds("s0", "s1", "s2", "good", "more")
        await following.server.tell("MODIFIED", slice_of("s1", "10.0.0.9"))
        await following.until(lambda: items["default/s1"].endpoints[0].addresses == ["10.0.0.9"])
        await following.server.tell("DELETED", slice_of("odd"))
        await following.server.tell("DELETED", slice_of("s1", endpoints=3))
        await following.holds("s0", "s2", "good", "more")

    with caplog.at_level(logging.INFO, "netlab"):
        follow(tmp_path, body)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [
        "EndpointSlice default/s1: it cannot be read: Expected `array`, got `str` - at `$.endpoints[0].addresses`; "
        "keeping its last state",
        "EndpointSlice default/odd: it cannot be read: Expected `array`, got `int` - at `$.endpoints`; ignored",
    ]


def test_a_server_that_was_away_is_asked_for_what_was_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(informer_module, "_RETRY", Backoff(first=0.05, last=0.2))
    server = OldServer("v1")
    guard = Guard(server)

    async def live() -> None:
        async with listening(guard) as port:
            endpoint = kubeconfig.load(secure.kubeconfig(tmp_path / "config", {"server": f"http://127.0.0.1:{port}"}))
            client = await Client(endpoint).__aenter__()
            following = Following(server, guard, client)
            running = asyncio.create_task(following.informer.run())
            await following.until(following.watches)
        await server.tell("ADDED", slice_of("missed"))
        await following.until(lambda: sum("retrying" in each.getMessage() for each in caplog.records) >= 3)
        async with listening(guard, port=port):
            await following.holds("missed")
            assert len(following.lists()) == 1
            running.cancel()
            await client.__aexit__(None, None, None)

    with caplog.at_level(logging.DEBUG, "netlab"):
        asyncio.run(asyncio.wait_for(live(), LIMIT))
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    said = [record.getMessage().split(": ", 1)[1] for record in warned]
    assert len(said) == 2, "once when it went and once when it came, however often it was tried"
    assert said[1] == "the API server is answering again"


def test_a_server_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the connection and answers nothing, or no longer: half of a network is gone, say."""
    monkeypatch.setattr(client_module, "SILENCE", 0.2)
    monkeypatch.setattr(client_module, "_WATCH_GRACE", 0.2)

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if "watch" in secure.parameters(scope):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            line = msgspec.json.encode({"type": "ADDED", "object": slice_of("s")}) + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await asyncio.sleep(LIMIT)

    async def live() -> None:
        async with listening(silent) as port:
            endpoint = kubeconfig.load(secure.kubeconfig(tmp_path / "config", {"server": f"http://127.0.0.1:{port}"}))
            async with Client(endpoint) as client:
                with pytest.raises(ApiUnavailableError, match="does not answer: no answer in time"):
                    await client.list(ENDPOINTSLICES)
                watch = client.watch(ENDPOINTSLICES, "1", seconds=0)
                assert (await anext(watch)).object.key == "default/s"
                with pytest.raises(ApiUnavailableError, match="broke off a watch: no answer in time"):
                    await anext(watch)

    asyncio.run(asyncio.wait_for(live(), LIMIT))
