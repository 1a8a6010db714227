"""The server as a process: starting, stopping, dying, and a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.api.client import Client
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.resources import PODS
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.api.serving import Server, mode, pod, serving


def test_only_its_owner_may_talk_to_it(lab: Path) -> None:
    with serving(lab) as server:
        assert [mode(path) for path in (server.socket, server.database)] == ["0o600", "0o600"]


def test_silent_clients_hold_nobody_back(server: Server) -> None:
    """More than one process may have: the oldest that have said nothing, or half of something, have to go."""
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(600)]
    for number, client in enumerate(silent):
        client.connect(str(server.socket))
        client.settimeout(30)
        if number % 2:
            client.send(b"GET /api HTT")
    assert server.answers()
    assert silent[0].recv(1) == b""
    for client in silent:
        client.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: api\r\nx: " + b"y" * 70_000, b"431"),
        (b"GET /" + b"y" * 70_000, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\0" * 100, b"400"),
    ],
)
def test_nonsense_is_answered_and_given_up(server: Server, sent: bytes, status: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect(str(server.socket))
        client.sendall(sent)
        assert client.recv(12) == b"HTTP/1.1 " + status
    assert server.answers()


def test_a_caller_in_a_container_is_refused(server: Server) -> None:
    """Two pid namespaces beneath the server's: in a lab the first is a node, and the second a container of it."""

    def ask(depth: int) -> bytes:
        if depth:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            read_end, write_end = os.pipe()
            if os.fork() == 0:
                try:
                    os.write(write_end, ask(depth - 1))
                finally:
                    os._exit(0)
            os.close(write_end)
            return os.read(read_end, 64)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(str(server.socket))
            with contextlib.suppress(BrokenPipeError):  # who is refused is told so before a word
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: api\r\n\r\n")
            return client.recv(12)

    @isolated
    def asked(depth: int, status: bytes) -> None:
        assert ask(depth) == b"HTTP/1.1 " + status

    for depth, status in ((0, b"200"), (1, b"200"), (2, b"403")):
        asked(depth, status)


def test_sigterm_ends_it_cleanly_with_watches_open(server: Server) -> None:
    async def watch() -> list[str]:
        async with server.client() as client:
            opened = client.watch(PODS, "0")
            await client.create(PODS, pod("p"))
            types = [(await anext(opened)).type]
            loop = asyncio.get_running_loop()
            ended = loop.run_in_executor(None, server.end)
            types += [event.type async for event in opened]
            assert await ended == (0, "")
            with pytest.raises(ApiUnavailableError):
                await client.list(PODS)
            return types

    # The bookmark lets clients go on without listing again, if nothing happens meanwhile.
    assert asyncio.run(watch()) == ["ADDED", "BOOKMARK"]
    assert not server.socket.exists()


def test_it_dies_with_its_parent(lab: Path) -> None:
    server = Server(lab)
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *server.command]
    )
    _wait(server.answers)
    parent.kill()
    parent.wait()
    _wait(lambda: not server.answers())


def test_what_was_acknowledged_outlives_kill_9(server: Server) -> None:
    acknowledged: dict[str, int] = {}

    async def write(client: Client, writer: int) -> None:
        for number in range(10_000):
            made = await client.create(PODS, pod(f"p-{writer}-{number}"))
            acknowledged[made.metadata.name] = int(made.metadata.resourceVersion)

    async def until_killed() -> None:
        async with server.client() as client:
            writers = [asyncio.create_task(write(client, writer)) for writer in range(5)]
            while len(acknowledged) < 200:
                await asyncio.sleep(0.01)
            server.end(signal.SIGKILL)
            ended = await asyncio.gather(*writers, return_exceptions=True)
            assert all(isinstance(error, ApiUnavailableError) for error in ended)

    async def check() -> None:
        async with server.client() as client:
            found, version = await client.list(PODS)
            versions = {item.metadata.name: int(item.metadata.resourceVersion) for item in found}
            assert acknowledged.items() <= versions.items()
            assert int(version) >= max(acknowledged.values())
            # At most the one that each writer was waiting for.
            assert len(versions) - len(acknowledged) <= 5

    asyncio.run(until_killed())
    assert server.socket.exists(), "killed: it could not tidy up"
    server.start()
    asyncio.run(check())


def test_a_client_that_breaks_off_is_no_fault(server: Server) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
        client.connect(str(server.socket))
        path = "/api/v1/namespaces/default/pods"
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert server.answers()
    assert server.end() == (0, "")


def test_a_second_server_is_refused_and_the_first_goes_on(server: Server) -> None:
    status, said = server.refusal()
    assert status == 4
    assert _one_line(said).endswith("is in use by another API server: stop that one first")
    assert server.answers()


@pytest.mark.parametrize(
    ("file", "content", "status", "complaint"),
    [
        ("config.json", "{", 2, "config.json is wrong"),
        ("config.json", '{"serviceCIDRs":["10.0.0.0/99"]}', 2, "serviceCIDRs"),
        ("config.json", '{"serviceCIDRs":["10.0.0.0/16"],"nodePort":1}', 2, "unknown field `nodePort`"),
        ("cluster.db", "rubbish " * 1000, 1, "cannot be used (file is not a database): there is no snapshot"),
        ("api.sock/x", "", 4, "api.sock cannot be made"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    lab: Path, file: str, content: str, status: int, complaint: str
) -> None:
    server = Server(lab)
    (lab / file).parent.mkdir(exist_ok=True)
    (lab / file).write_text(content)
    found, said = server.refusal()
    assert found == status
    assert complaint in _one_line(said)


@isolated
def test_a_full_disk_refuses_and_recovers() -> None:
    # Mounted in a namespace of the test's own; not pytest's folder, whose path is too long for a Unix socket's.
    disk = Path(tempfile.mkdtemp(prefix="netlab-"))
    syscalls.mount("tmpfs", disk, "tmpfs", syscalls.MS_NOSUID, "size=2m")
    ballast = disk / "ballast"
    refused: list[ApiError] = []

    async def fill(client: Client) -> int:
        for number in range(1_000_000):
            try:
                await client.create(PODS, pod(f"p{number}"))
            except ApiError as error:
                refused.append(error)
                return number
        raise AssertionError("the disk has no end")

    async def use(server: Server) -> None:
        async with server.client() as client:
            _, version = await client.list(PODS)
            watch = client.watch(PODS, version)
            written = await fill(client)
            assert (refused[0].code, refused[0].reason) == (507, "InsufficientStorage")
            assert "free space and try again; nothing was changed" in str(refused[0])
            assert refused[0].exit_status == 7
            # Not a deletion: that is small, and may fit where the refused pod did not.
            with pytest.raises(ApiError, match="is full"):
                await client.create(PODS, pod(f"p{written}"))
            assert len((await client.list(PODS))[0]) == written
            assert [(await anext(watch)).object.metadata.name for _ in range(written)][-1] == f"p{written - 1}"
            ballast.unlink()
            await client.create(PODS, pod("after"))
            assert (await anext(watch)).object.metadata.name == "after"
            server.end(signal.SIGKILL)
        server.start()
        async with server.client() as client:
            assert len((await client.list(PODS))[0]) == written + 1

    directory = disk / "lab"
    directory.mkdir()
    with serving(directory) as server:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            for _ in range(1024):
                file.write(bytes(1024))
        asyncio.run(asyncio.wait_for(use(server), 60))
    syscalls.umount(disk)
    disk.rmdir()


def test_a_long_path_is_told(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    status, said = Server(directory).refusal()
    assert status == 2
    assert "is too long for a Unix socket" in _one_line(said)


def _one_line(said: str) -> str:
    assert said.startswith("netlab-apiserver: ")
    assert said.count("\n") == 1, said
    return said.strip()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
