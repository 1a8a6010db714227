"""What both backends promise, and what etcd promises besides."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import NODES, PODS
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage import snapshots
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.etcd import Etcd
from netlab.api.server.storage.etcd_gateway import Gateway, UncertainError, encoded
from netlab.api.server.storage.sqlite import restore
from netlab.api.server.storage.watch import Selection
from netlab.errors import NetlabError, UsageError
from tests import etcd
from tests.unit.api.cluster import create, opened, pod, refused

_PODS: Any = PODS
_NODES: Any = NODES

Open = Callable[[], Backend]


def _names(registry: Registry) -> set[str]:
    return {stored.name for stored in registry.store.all(_PODS)}


def _delete(registry: Registry, name: str = "p") -> None:
    registry.delete(_PODS, "default", name, DeleteOptions())


def test_everything_is_there_again(backend: Open) -> None:
    with opened(backend) as registry:
        made = create(registry, PODS, pod()), create(registry, NODES, {"metadata": {"name": "n"}})
    with opened(backend) as registry:
        found = registry.get(_PODS, "default", "p").decode(), registry.get(_NODES, "", "n").decode()
        assert found == made


def test_the_revision_never_goes_back(backend: Open) -> None:
    with opened(backend) as registry:
        create(registry, PODS, pod())
        _delete(registry)
        revision = registry.store.revision
    with opened(backend) as registry:
        started = registry.store.revision
        assert started >= revision
        assert int(create(registry, PODS, pod())["metadata"]["resourceVersion"]) == started + 1


def test_what_was_acknowledged_is_there_after_a_kill(backend: Open) -> None:
    child = os.fork()
    if child == 0:
        try:
            with opened(backend) as registry:
                for number in range(30):
                    create(registry, PODS, pod(f"p{number}"))
                _delete(registry, "p7")
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with opened(backend) as registry:
        assert _names(registry) == {f"p{number}" for number in range(30)} - {"p7"}


async def _seen(registry: Registry, since: int) -> list[tuple[str, str, int]]:
    """What a watch of pods since a revision sees: type, name and resourceVersion."""
    watch = registry.store.hub.watch(PODS.plural, Selection(), since)
    found = [msgspec.json.decode(line) for line in (await watch.take()).splitlines()]
    return [
        (f["type"], f["object"]["metadata"]["name"], int(f["object"]["metadata"]["resourceVersion"])) for f in found
    ]


def test_a_watch_goes_on_after_a_restart(backend: Open) -> None:
    with opened(backend) as registry:
        since = registry.store.revision
        made = create(registry, PODS, pod("a"))
        create(registry, NODES, {"metadata": {"name": "n"}})
        create(registry, PODS, pod("b"))
        registry.update(_PODS, "default", "a", made | {"metadata": made["metadata"] | {"labels": {"x": "y"}}})
        _delete(registry, "a")
        before = asyncio.run(_seen(registry, since))
        assert [each[:2] for each in before] == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]
        middle = before[1][2]
        page = dict(registry.store.objects_at(_PODS, middle))
    with opened(backend) as registry:
        assert asyncio.run(_seen(registry, since)) == before
        assert registry.store.objects_at(_PODS, middle) == page
        registry.store.compact(middle)
        registry.store.check()
    with opened(backend) as registry:
        assert asyncio.run(_seen(registry, middle)) == before[2:]
        with refused(410):
            registry.store.hub.watch(PODS.plural, Selection(), since)


def test_compaction_forgets_pages_and_lets_watches_go_on_that_know_all(backend: Open) -> None:
    with opened(backend) as registry:
        create(registry, PODS, pod("a"))
        known = registry.store.revision
        create(registry, PODS, pod("b"))
        last = registry.store.revision
        create(registry, NODES, {"metadata": {"name": "n"}})
        registry.store.compact(registry.store.revision)
        for revision in (known, last):
            with refused(410):
                registry.store.objects_at(_PODS, revision)
        registry.store.hub.watch(PODS.plural, Selection(), last)
        with refused(410):
            registry.store.hub.watch(PODS.plural, Selection(), known)


def test_a_snapshot_of_one_is_restored_to_the_other(etcd_url: str, tmp_path: Path) -> None:
    database, file, restoring = tmp_path / "cluster.db", tmp_path / "file", tmp_path / "restoring"

    def in_etcd() -> Backend:
        return Etcd(Gateway(etcd_url), f"/{tmp_path.name}-{os.getpid()}", restoring)

    with opened(database) as registry:
        for number in range(150):  # more than one transaction takes
            create(registry, PODS, pod(f"p{number}"))
        content = [_unversioned(raw) for _, raw in registry.store.contents()]
        snapshots.write(restoring, snapshots.lines(registry.store.revision, registry.store.contents()))
    with opened(in_etcd) as registry:
        assert [_unversioned(raw) for _, raw in registry.store.contents()] == content
        assert not restoring.exists()
        with refused(410):
            registry.store.hub.watch(PODS.plural, Selection(), registry.store.revision - 2)
        create(registry, PODS, pod("another"))
        snapshots.write(file, snapshots.lines(registry.store.revision, registry.store.contents()))
        kept = registry.store.contents()
    restore(database, snapshots.read(file))
    with opened(database) as registry:
        assert registry.store.contents() == kept
    snapshots.write(restoring, snapshots.lines(1, []))
    with opened(in_etcd) as registry:
        assert _names(registry) == set()


def _unversioned(raw: bytes) -> Any:
    obj = msgspec.json.decode(raw)
    del obj["metadata"]["resourceVersion"]
    return obj


# --- etcd alone ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[etcd.EtcdServer]:
    """An etcd that a test may do anything to."""
    with etcd.running() as running:
        yield running


def test_keys_and_values_are_as_upstreams(server: etcd.EtcdServer) -> None:
    with opened(lambda: Etcd(Gateway(server.url), "/lab")) as registry:
        made = create(registry, PODS, pod())
    with contextlib.closing(Gateway(server.url)) as gateway:
        answer = gateway.call("kv/range", {"key": encoded(b"/lab/registry/pods/default/p")})
        (pair,) = answer["kvs"]
        assert pair["mod_revision"] == made["metadata"].pop("resourceVersion")
        value = Etcd(gateway, "/lab")._found(pair)[1].decode()
        del value["metadata"]["resourceVersion"]
        assert value == made


def test_a_later_server_fences_off_an_earlier_one(server: etcd.EtcdServer) -> None:
    with opened(lambda: Etcd(Gateway(server.url))) as earlier:
        create(earlier, PODS, pod("a"))
        with opened(lambda: Etcd(Gateway(server.url))) as later:
            with refused(500, "another has written to it"):
                create(earlier, PODS, pod("b"))
            with pytest.raises(ValueError, match="another API server has claimed"):
                earlier.store.check()
            create(later, PODS, pod("b"))
            assert (_names(earlier), _names(later)) == ({"a"}, {"a", "b"})


def test_what_another_has_written_is_not_overwritten(server: etcd.EtcdServer) -> None:
    with opened(lambda: Etcd(Gateway(server.url))) as registry, contextlib.closing(Gateway(server.url)) as gateway:
        create(registry, PODS, pod())
        value = registry.get(_PODS, "default", "p").raw
        gateway.call("kv/put", {"key": encoded(b"/registry/pods/default/p"), "value": encoded(value)})
        with refused(500, "another has written to it"):
            _delete(registry)


def test_an_etcd_that_is_away_and_comes_back(server: etcd.EtcdServer) -> None:
    with opened(lambda: Etcd(Gateway(server.url))) as registry:
        create(registry, PODS, pod("a"))
        server.end()
        with refused(503, "is away", "nothing was changed"):
            create(registry, PODS, pod("b"))
        assert _names(registry) == {"a"}
        server.start()
        create(registry, PODS, pod("b"))
        registry.store.check()
    with opened(lambda: Etcd(Gateway(server.url))) as registry:
        assert _names(registry) == {"a", "b"}


@pytest.mark.parametrize("kind", ["created", "changed", "deleted"])
@pytest.mark.parametrize("was_made", [False, True])
def test_a_write_without_an_answer_is_taken_back(server: etcd.EtcdServer, kind: str, was_made: bool) -> None:
    gateway = _Silent(server.url)
    with opened(lambda: Etcd(gateway)) as registry:
        if kind != "created":
            create(registry, PODS, pod("a"))
        before = [_unversioned(raw) for _, raw in registry.store.contents()]
        gateway.is_silent, gateway.passes = True, was_made
        with refused(503, "does not answer"):
            if kind == "created":
                create(registry, PODS, pod("a"))
            elif kind == "deleted":
                _delete(registry, "a")
            else:
                changed = registry.get(_PODS, "default", "a").decode()
                changed["metadata"]["labels"] = {"x": "y"}
                registry.update(_PODS, "default", "a", changed)
        with refused(503):
            create(registry, PODS, pod("c"))  # as long as it is silent, nothing else is written
        gateway.is_silent = False
        create(registry, PODS, pod("b"))
        _delete(registry, "b")
        assert [_unversioned(raw) for _, raw in registry.store.contents()] == before
        contents = registry.store.contents()
    with opened(lambda: Etcd(Gateway(server.url))) as registry:
        assert registry.store.contents() == contents


class _Silent(Gateway):
    """Loses the answers of transactions, and the transactions too unless `passes`."""

    is_silent = passes = False

    def call(self, method: str, message: Any) -> dict[str, Any]:
        if not self.is_silent or method != "kv/txn":
            return super().call(method, message)
        if self.passes:
            super().call(method, message)
        raise UncertainError("timed out")


def test_a_kill_of_etcd_amid_writes_loses_nothing_acknowledged(server: etcd.EtcdServer) -> None:
    with opened(lambda: Etcd(Gateway(server.url))) as registry:
        enough = threading.Event()

        def kill() -> None:
            enough.wait()
            server.end()

        killer = threading.Thread(target=kill)
        killer.start()
        made, refusal = _fill(registry, pod, at_20=enough.set)
        assert refusal.code == 503
        killer.join()
        server.start()
        create(registry, PODS, pod("last"))
        assert _names(registry) == made | {"last"}
    with opened(lambda: Etcd(Gateway(server.url))) as registry:
        assert _names(registry) == made | {"last"}


def test_a_full_etcd_recovers() -> None:
    with (
        etcd.running("--quota-backend-bytes", "400000") as server,
        contextlib.closing(Gateway(server.url)) as gateway,
        opened(lambda: Etcd(Gateway(server.url))) as registry,
    ):
        made, refusal = _fill(registry, _large)
        assert (refusal.code, refusal.status.reason) == (507, "InsufficientStorage")
        assert _names(registry) == made
        for name in made:
            _delete(registry, name)
        gateway.call("kv/compaction", {"revision": str(registry.store.revision), "physical": True})
        gateway.call("maintenance/defragment", {})
        for alarm in gateway.call("maintenance/alarm", {}).get("alarms", []):
            gateway.call("maintenance/alarm", alarm | {"action": "DEACTIVATE"})
        create(registry, PODS, pod("p"))


def _fill(
    registry: Registry, manifest: Callable[[str], dict[str, Any]], at_20: Callable[[], None] | None = None
) -> tuple[set[str], ApiError]:
    """Create pods until one is refused: the names of those that were made, and the refusal."""
    made: set[str] = set()
    while True:
        name = f"p{len(made)}"
        try:
            create(registry, PODS, manifest(name))
        except ApiError as refusal:
            return made, refusal
        made.add(name)
        if len(made) == 20 and at_20 is not None:
            at_20()


def _large(name: str) -> dict[str, Any]:
    return pod() | {"metadata": {"name": name, "annotations": {"a": "x" * 50_000}}}


@pytest.mark.parametrize("url", ["ftp://host", "host:2379", "http://", "http://host:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="etcd's URL"):
        Gateway(url)


@pytest.mark.parametrize(
    ("key", "value"),
    [("pods/default/p", "no JSON"), ("nothing/p", "{}"), ("pods/default/p", '{"metadata": {"name": "q", "uid": "u"}}')],
)
def test_keys_that_are_no_clusters(server: etcd.EtcdServer, key: str, value: str) -> None:
    with contextlib.closing(Gateway(server.url)) as gateway:
        gateway.call("kv/put", {"key": encoded(f"/registry/{key}".encode()), "value": encoded(value.encode())})
        with pytest.raises(NetlabError, match="has no cluster's objects beneath /registry/"):
            Etcd(gateway).load()
