"""A lab whose processes are killed at random, while clients write to its API, watch it, and call a Service.

What is promised: every write that was acknowledged is there, every watch sees it, no call of the Service fails, and
nothing hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from netlab.api.blocking import BlockingClient
from netlab.api.client import Client
from netlab.api.config_types import ConfigMap
from netlab.api.errors import ApiError
from netlab.api.informer import Informer
from netlab.api.resources import CONFIGMAPS
from netlab.errors import NetlabError
from tests.e2e.conftest import Netlab, eventually
from tests.e2e.test_lab import WEB

VICTIMS = ("apiserver", "etcd", "daemon", "controller-mana", "kubelet-node-", "kube-proxy-node", "cni-node-")
"""What is killed: services of the fabric by what they are, the daemon's components by the names of their processes."""

_MODULES = {"apiserver": "-m netlab.api.server", "etcd": "--name lab --data-dir", "daemon": "-m netlab.lab.daemon"}

_CALLS = r"""
import socket, sys
while True:
    try:
        with socket.create_connection((sys.argv[1], 30080), 60) as connection:
            connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
            answer = connection.makefile("rb").read()
        print("good" if b" 200 " in answer else repr(answer), flush=True)
    except OSError as error:
        print(error, flush=True)
"""
_PLACE = "/api/v1/namespaces/default/configmaps"
_AGAIN, _REST = 0.02, 0.01
"""Seconds between two requests while nobody answers, and after one that was answered."""


@dataclasses.dataclass
class Found:
    """What there was, to be told and to be checked."""

    kills: list[str] = dataclasses.field(default_factory=list)
    acknowledged: set[str] = dataclasses.field(default_factory=set)
    refused: int = 0
    calls: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    """Of calls of the Service."""
    longest: float = 0.0
    """Seconds between two writes that were acknowledged."""


class Chaos:
    """One lab, which is up, with its clients at work."""

    def __init__(self, lab: Netlab, seed: int) -> None:
        self.found = Found()
        self._lab = lab
        self._socket = lab.home / "default/api.sock"
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._watched: set[str] = set()

    @contextlib.contextmanager
    def clients(self) -> Iterator[None]:
        """Have clients write, watch and call until the end."""
        self._lab.ok("apply", "--wait", "-f", "-", stdin=WEB)
        self._lab.wait_available("web", 3)
        node = self._lab.json("status")["nodes"][0]["addresses"][0]
        command = self._lab.argv("exec", "outside", "--", "python3", "-c", _CALLS, node)
        caller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._lab.environment)
        works = (self._write, lambda: asyncio.run(self._watch()), lambda: self._count(caller))
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            caller.terminate()
            caller.wait()
            for thread in threads:
                thread.join()

    def round(self) -> None:
        """Kill one process, and wait until clients get on."""
        victim = self._random.choice([each for each in VICTIMS if self._pids(each)])
        pid = self._random.choice(self._pids(victim))
        self.found.kills.append(victim)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        writes, calls = len(self.found.acknowledged), self.found.calls
        eventually(lambda: len(self.found.acknowledged) >= writes + 5 and self.found.calls >= calls + 5)

    def check(self) -> None:
        """What is promised holds; the clients are still at work."""
        acknowledged = set(self.found.acknowledged)
        assert acknowledged - self._stored() == set()
        eventually(lambda: self._watched >= acknowledged)
        self._lab.ok("wait", "--synced")
        self._lab.ok("apply", "--wait", "-f", "-", stdin=WEB.replace("replicas: 3", "replicas: 4"))
        self._lab.wait_available("web", 4)
        assert self.found.failures == []

    def _pids(self, victim: str) -> list[int]:
        """The processes that are called so."""
        found = []
        for pid, line in self._lab.processes().items():
            if victim in _MODULES:
                with contextlib.suppress(OSError):
                    comm = Path(f"/proc/{pid}/comm").read_text()
                    if _MODULES[victim] in line and not comm.startswith(VICTIMS[3:]):
                        found.append(pid)
            else:
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().startswith(victim):
                        found.append(pid)
        return found

    def _stored(self) -> set[str]:
        return {each.metadata.name for each in BlockingClient(self._socket).list(CONFIGMAPS, "default")}

    def _write(self) -> None:
        client, number, last = BlockingClient(self._socket), 0, time.monotonic()
        while not self._over.is_set():
            name = f"c{number}"
            try:
                client.request("POST", _PLACE, {"metadata": {"name": name}, "data": {"n": str(number)}})
            except ApiError as error:
                # One that was not acknowledged may be there, if the server died before it could take it back.
                number += error.code == 409
                self._pause()
            except NetlabError:
                self._pause()
            else:
                self.found.acknowledged.add(name)
                number += 1
                self.found.longest = max(self.found.longest, time.monotonic() - last)
                self._over.wait(_REST)
                last = time.monotonic()

    def _pause(self) -> None:
        self.found.refused += 1
        self._over.wait(_AGAIN)

    async def _watch(self) -> None:
        async with Client(self._socket) as client:
            informer: Informer[ConfigMap] = Informer(client, CONFIGMAPS, "default")
            informer.on_change(lambda _, new: self._watched.add(new.metadata.name) if new is not None else None)
            running = asyncio.create_task(informer.run())
            await asyncio.to_thread(self._over.wait)
            running.cancel()

    def _count(self, caller: subprocess.Popen[str]) -> None:
        assert caller.stdout is not None
        for line in caller.stdout:
            self.found.calls += 1
            if line != "good\n":
                self.found.failures.append(line)


def run(lab: Netlab, store: str, goes_on: Callable[[Found], bool], seed: int) -> Found:
    """A lab with such a store, of which one process after another is killed; checked, and taken down."""
    lab.ok("up", "--nodes", "2", "--store", store)
    chaos = Chaos(lab, seed)
    with chaos.clients():
        while goes_on(chaos.found):
            chaos.round()
        chaos.check()
    lab.ok("down")
    return chaos.found
