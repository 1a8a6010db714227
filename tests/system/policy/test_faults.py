"""What goes wrong while packets flow: what every state closes never opens, and what every state opens never closes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.progress import Progress
from netlab.net import kernel_table
from netlab.net.netlink import NetlinkError
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.programs import ProgramError
from netlab.policy import enforcer as enforcing
from netlab.policy.book import Book, PodFacts
from netlab.policy.desk import Newcomer
from netlab.policy.enforcer import Enforcer
from netlab.policy.nftables.executor import NftablesExecutor
from netlab.policy.notes import Notes
from netlab.policy.objects import NAMESPACES, PODS
from netlab.policy.rules import AnyPolicy
from tests.sandbox import isolated
from tests.system.policy.traffic import CLIENT, CLOSED, FAMILIES, OPEN, SERVER, Traffic
from tests.unit.policy.cases import EVERYTHING, key_of, labels, policy
from tests.unit.policy.objects import parsed, typed

Json = dict[str, Any]

GUARD = policy(
    "guard",
    labels(app="server"),
    ingress=[{"from": [{"podSelector": labels(app="client")}], "ports": [{"protocol": "UDP", "port": OPEN}]}],
)
"""What holds in every state of these tests."""
_KILLS = 8


def others(step: int) -> Iterator[tuple[str, PodFacts]]:
    """Pods around the client and the server, whose labels and policies change from step to step."""
    for number in range(100):
        found = {"app": f"app-{(number + step) % 7}"}
        addresses = (f"10.244.2.{number + 1}", f"fd00:10:244:2::{number + 1:x}")
        yield f"x/other-{number}", PodFacts("x", found, addresses, local=True)


def book_at(step: int) -> Book:
    """All that is known at a step."""
    book = Book()
    book.set_namespace("x", {"kubernetes.io/metadata.name": "x"})
    advance(book, step)
    return book


def advance(book: Book, step: int) -> None:
    """Go on to a step: labels of all pods, so their classes too, and what they and the server admit."""
    more = {"step": str(step % 2)}
    book.set_pod("x/client", PodFacts("x", {"app": "client", **more}, CLIENT, local=True))
    book.set_pod("x/server", PodFacts("x", {"app": "server", **more}, SERVER, local=True))
    for key, facts in others(step % 2):
        book.set_pod(key, facts)
    peers = [{"podSelector": labels(step=str(step % 2))}, {"podSelector": labels(app="app-1")}]
    for number in range(7):
        subject = labels(app=f"app-{number}") if number else EVERYTHING
        rule = {"from": peers, "ports": [{"port": 100 + step % 2 + number}]}
        book.set_policy(f"x/p{number}", parsed(policy(f"p{number}", subject, ingress=[rule])))
    book.set_policy(key_of(GUARD), parsed(GUARD))


def converged(made: list[NftablesExecutor], book: Book) -> bool:
    return not [line for each in made for line in each.differences(book.plan, book.profiles)]


def in_force(executor: NftablesExecutor, book: Book) -> bool:
    """Whether the plan is what decides: what nothing leads to yet, or any more, may be left of an unfinished change."""
    left_over = ("set profiles has", "set ports has", "map ingress-profiles has")
    return all(line.startswith(left_over) for line in executor.differences(book.plan, book.profiles))


def replaced(book: Book) -> list[NftablesExecutor]:
    """Executors that have brought the kernel to a book's plan."""
    book.take_changes()
    made = [NftablesExecutor(family) for family in FAMILIES]
    for each in made:
        each.replace(book.plan, book.profiles)
    return made


def change_until_killed(in_force: int) -> None:
    book = book_at(0)
    made = replaced(book)
    os.write(in_force, b".")
    for step in itertools.count(1):
        advance(book, step)
        transaction = book.take_changes()
        for each in made:
            each.apply(transaction)


@isolated
def test_killed_in_the_middle_of_changes() -> None:
    traffic = Traffic()
    chance = random.Random(1)
    states = [book_at(0), book_at(1)]
    for state in reversed(states):
        replaced(state)
    traffic.start()
    for _ in range(_KILLS):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            change_until_killed(write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            assert pipe.read(1)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for family in FAMILIES:  # each is a transaction of its own
            assert any(in_force(NftablesExecutor(family), state) for state in states)
    # Another process goes on from there.
    assert converged(replaced(states[1]), states[1])
    seen = traffic.stop()
    assert seen.open_came == seen.open_passed
    assert seen.closed_came > 0
    assert seen.closed_passed == 0


class Ending(Nfnetlink):
    """As an ordinary user's socket in older kernels, which takes changes in parts only; the process ends after some."""

    left: int | None = None
    """How many parts it still takes; None: it takes everything."""

    def commit(self, messages, generation=0):  # type: ignore[no-untyped-def]
        if Ending.left is not None:
            raise NetlinkError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE), "nftables")
        return super().commit(messages, generation)

    def commit_in_parts(self, messages):  # type: ignore[no-untyped-def]
        if Ending.left == 0:
            raise NetlinkError(errno.EINTR, os.strerror(errno.EINTR), "nftables")
        if Ending.left:
            Ending.left -= 1
        super().commit(messages)
        return 1


@isolated
def test_killed_between_the_parts_of_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_table, "Nfnetlink", Ending)
    traffic = Traffic()
    book = book_at(0)
    replaced(book)
    traffic.start()
    for parts in itertools.count():
        made = replaced(book)
        advance(book, parts + 1)
        transaction = book.take_changes()
        ended = 0
        for each in made:
            Ending.left = parts
            try:
                each.apply(transaction)
            except ProgramError:
                ended += 1
        Ending.left = None
        time.sleep(0.01)  # packets meet what is there now
        if not ended:
            break
    assert parts > 3, "a change has many parts"
    assert converged(replaced(book), book)
    seen = traffic.stop()
    assert seen.open_came == seen.open_passed
    assert seen.closed_came > 0
    assert seen.closed_passed == 0


# --- An enforcer, and the API's changes -------------------------------------------------------------------------------


def pod(name: str, found: dict[str, str], addresses: tuple[str, ...], *, uid: str = "") -> Any:
    metadata = {"namespace": "x", "name": name, "uid": uid or name, "labels": found}
    status = {"phase": "Running", "podIPs": [{"ip": each} for each in addresses]}
    return msgspec.convert({"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status}, PODS.type)


class Api:
    """Tells an enforcer of objects, as informers do."""

    def __init__(self, notes: Path) -> None:
        self.enforcer = Enforcer("node-1", FAMILIES, Notes(notes), Progress())
        self._pods: dict[str, Any] = {}
        self._policies: dict[str, AnyPolicy] = {}
        space = {"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}}}
        self.enforcer.namespace_changed(None, msgspec.convert(space, NAMESPACES.type))
        self.pod(pod("client", {"app": "client"}, CLIENT))
        self.pod(pod("server", {"app": "server"}, SERVER))
        self.policy(GUARD)

    def pod(self, new: Any) -> None:
        """A pod is like this."""
        self.enforcer.pod_changed(self._pods.get(new.key), new)
        self._pods[new.key] = new

    def no_pod(self, key: str) -> None:
        """A pod is gone, if it was there."""
        if (old := self._pods.pop(key, None)) is not None:
            self.enforcer.pod_changed(old, None)

    def policy(self, manifest: Json) -> None:
        """A policy says this."""
        new = typed(manifest)
        self.enforcer.policy_changed(self._policies.get(new.key), new)
        self._policies[new.key] = new

    def no_policy(self, key: str) -> None:
        """A policy is gone, if it was there."""
        if (old := self._policies.pop(key, None)) is not None:
            self.enforcer.policy_changed(old, None)

    @contextlib.asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """While the enforcer serves; all that is known at the beginning is in force."""
        serving = asyncio.create_task(self.enforcer.serve())
        try:
            await self.settled()
            yield
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    async def settled(self) -> None:
        """Wait until what is known now is in force."""
        client = self._pods["x/client"]
        await self.enforcer.admit(Newcomer("x", "client", client.metadata.uid, CLIENT))

    def anew(self) -> Book:
        """What another process would plan."""
        other = Enforcer("node-1", (), self.enforcer._notes, Progress())
        other._policies, other._pods = self.enforcer._policies, self.enforcer._pods
        other._namespaces = self.enforcer._namespaces
        other._begin_anew()
        other._book.take_changes()
        return other._book


DAMAGES = [
    "flush chain ip netlab-policy forward; flush chain ip6 netlab-policy forward",
    "insert rule ip netlab-policy forward accept",
    "delete table ip6 netlab-policy",
    "flush set ip netlab-policy ingress-pods",
    "delete table ip netlab-policy; delete table ip6 netlab-policy",
    "flush map ip6 netlab-policy ingress-profiles",
]


@isolated
def test_rules_that_others_damage_while_everything_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "_CHECK", 0.1)
    traffic = Traffic()

    async def change(api: Api) -> None:
        for step in itertools.count():
            api.pod(pod("client", {"app": "client", "step": str(step % 3)}, CLIENT))
            await asyncio.sleep(0.001)

    async def damage_all() -> None:
        api = Api(tmp_path)
        async with api.enforced():
            traffic.start()
            changing = asyncio.create_task(change(api))
            for damage in DAMAGES:
                await asyncio.to_thread(subprocess.run, ["nft", damage], check=True)
                await asyncio.to_thread(traffic.until_closed)
            changing.cancel()

    asyncio.run(damage_all())
    assert traffic.seen().closed_passed > 0, "the damages are some"
    traffic.forget()
    traffic.until_closed()
    seen = traffic.stop()
    assert seen.closed_passed == 0


@isolated
def test_no_pod_starts_while_rules_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "_CHECK", 3600.0)

    async def start() -> None:
        api = Api(tmp_path)
        async with api.enforced():
            made = [NftablesExecutor(family) for family in FAMILIES]
            for damage in DAMAGES:
                subprocess.run(["nft", damage], check=True)
                api.pod(pod("new", {"app": "server"}, (), uid=damage[:8]))
                addresses = ("10.244.1.9", "fd00:10:244:1::9")
                await api.enforcer.admit(Newcomer("x", "new", damage[:8], addresses))
                assert converged(made, api.anew()), damage

    asyncio.run(start())


@isolated
def test_the_tables_go_with_the_last_policy(tmp_path: Path) -> None:
    async def come_and_go() -> None:
        api = Api(tmp_path)
        made = [NftablesExecutor(family) for family in FAMILIES]
        async with api.enforced():
            for _ in range(2):
                assert converged(made, api.anew())
                api.no_policy(key_of(GUARD))
                await api.settled()
                tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
                assert "netlab-policy" not in tables
                api.policy(GUARD)
                await api.settled()

    asyncio.run(come_and_go())


_MALFORMED: list[Json] = [
    {"from": [{}]},
    {"from": [{"ipBlock": {"cidr": "10.244.1.0/33"}}]},
    {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["fd00::/8"]}}]},
    {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["client"]}]}}]},
    {"ports": [{"protocol": "UDP", "port": CLOSED, "endPort": 80}]},
    {"ports": [{"protocol": "UDP", "port": 70000}]},
    {"ports": [{"protocol": "ICMP"}]},
]


class Changes:
    """Changes of policies, labels and pods around a client and a server, none of which is about what these do."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        self._api = api
        self._chance = chance

    def one(self) -> None:
        """Any of them."""
        self._chance.choice([self._relabel, self._other_pod, self._no_pod, self._other_policy, self._no_policy])()

    def _labels(self) -> dict[str, str]:
        return {key: str(self._chance.randrange(3)) for key in ("tier", "zone") if self._chance.random() < 0.8}

    def _relabel(self) -> None:
        name, addresses = self._chance.choice([("client", CLIENT), ("server", SERVER)])
        self._api.pod(pod(name, {"app": name, **self._labels()}, addresses))

    def _other_pod(self) -> None:
        number = self._chance.randrange(40)
        addresses = (f"10.244.2.{number}", f"fd00:10:244:2::{number:x}")
        # Made again under the same name, with another uid; or changed.
        uid = f"{number}-{self._chance.randrange(2)}"
        self._api.pod(pod(f"other-{number}", {"app": "other", **self._labels()}, addresses, uid=uid))

    def _no_pod(self) -> None:
        self._api.no_pod(f"x/other-{self._chance.randrange(40)}")

    def _other_policy(self) -> None:
        peers = [{"podSelector": labels(**self._labels())} for _ in range(self._chance.randrange(1, 3))]
        if self._chance.random() < 0.5:
            first, length = self._chance.randrange(256), self._chance.randrange(8, 33)
            peers.append({"ipBlock": {"cidr": f"10.{first}.0.0/{length}"}})
        rules: list[Json] = [{"from": peers, "ports": [{"protocol": "UDP", "port": 1000 + self._chance.randrange(5)}]}]
        if self._chance.random() < 0.3:
            rules.append(self._chance.choice(_MALFORMED))
        self._api.policy(policy(f"p{self._chance.randrange(20)}", labels(**self._labels()), ingress=rules))

    def _no_policy(self) -> None:
        self._api.no_policy(f"x/p{self._chance.randrange(20)}")


@isolated
def test_thousands_of_changes_while_pods_come_and_go(tmp_path: Path) -> None:
    logging.disable()  # of malformed policies
    traffic = Traffic()

    async def change() -> None:
        api = Api(tmp_path)
        changes = Changes(api, random.Random(2))
        async with api.enforced():
            traffic.start()
            for _ in range(1500):
                changes.one()
                await asyncio.sleep(0.001)
            await api.settled()
            assert converged([NftablesExecutor(family) for family in FAMILIES], api.anew())

    asyncio.run(change())
    seen = traffic.stop()
    assert seen.open_came == seen.open_passed
    assert seen.closed_came > 0
    assert seen.closed_passed == 0
