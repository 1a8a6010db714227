"""The server over an etcd that goes away, and whose disk is full."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.api.client import Client
from netlab.api.errors import ApiError
from netlab.api.resources import PODS
from netlab.net import syscalls
from tests import etcd
from tests.sandbox import isolated
from tests.system.api.serving import Server, pod, serving


@contextlib.contextmanager
def _disk(size: str) -> Iterator[Path]:
    """A disk of the test's own, in a mount namespace of its own."""
    disk = Path(tempfile.mkdtemp(prefix="netlab-"))
    syscalls.mount("tmpfs", disk, "tmpfs", syscalls.MS_NOSUID, f"size={size}")
    try:
        yield disk
    finally:
        syscalls.umount(disk)
        disk.rmdir()


async def _fill(client: Client, made: set[str]) -> tuple[set[str], ApiError]:
    """Create large pods until one is refused: the names of all that were made, and the refusal."""
    while True:
        large = pod(f"p{len(made)}")
        large.metadata.annotations = {"fill": "x" * 100_000}
        try:
            await client.create(PODS, large)
        except ApiError as error:
            return made, error
        made.add(f"p{len(made)}")


async def _names(client: Client) -> set[str]:
    return {each.metadata.name for each in (await client.list(PODS))[0]}


def test_reads_go_on_while_etcd_is_away_and_watches_after_it(lab: Path) -> None:
    async def use(server: Server, away: etcd.EtcdServer) -> None:
        async with server.client() as client, server.http() as http:
            await client.create(PODS, pod("a"))
            watch = client.watch(PODS, (await client.list(PODS))[1])
            away.end()
            with pytest.raises(ApiError) as refusal:
                await client.create(PODS, pod("b"))
            assert (refusal.value.code, refusal.value.reason) == (503, "ServiceUnavailable")
            assert "database is away" in str(refusal.value)
            assert await _names(client) == {"a"}
            assert [(await http.get(path)).status for path in ("/readyz", "/readyz/ping")] == [500, 200]
            away.start()
            await client.create(PODS, pod("b"))
            assert (await anext(watch)).object.metadata.name == "b"
            assert (await http.get("/readyz")).status == 200

    with etcd.running() as running, serving(lab, running.url) as server:
        asyncio.run(asyncio.wait_for(use(server, running), 60))


@isolated
def test_a_full_disk_refuses_and_recovers() -> None:
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd (Debian: etcd-server)")

    async def use(server: Server, running: etcd.EtcdServer, ballast: Path) -> None:
        async with server.client() as client:
            await client.create(PODS, pod("p0"))
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            made, refusal = await _fill(client, {"p0"})
            assert refusal.code == 503
            assert running.process is not None
            running.process.wait()  # etcd does not go on without space
            assert await _names(client) == made
            ballast.unlink()
            running.start()
            await client.create(PODS, pod("after"))
            assert await _names(client) == made | {"after"}
        server.end()
        server.start()
        async with server.client() as client:
            assert await _names(client) == made | {"after"}

    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory, _disk("160m") as disk:
        running, ballast = etcd.EtcdServer(disk), disk / "ballast"
        running.start()
        try:
            with serving(Path(directory), running.url) as server:
                asyncio.run(asyncio.wait_for(use(server, running, ballast), 120))
        finally:
            running.end()
