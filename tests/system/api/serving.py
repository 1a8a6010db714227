"""The real server in a process of its own, and ways to talk to it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from netlab.api.client import Client
from netlab.api.core_types import Container, Pod, PodSpec
from netlab.api.meta_types import ObjectMeta

CONFIG = {"serviceCIDRs": ["10.96.0.0/24", "fd00:10:96::/112"], "nodePortRange": "30000-30099"}
START_TIMEOUT = 30.0


class Server:
    """One lab directory, and the server that works on it while it runs."""

    def __init__(self, directory: Path, etcd_url: str | None = None) -> None:
        self.store_options: list[str] = []
        if etcd_url is not None:
            self.store_options = ["--etcd", etcd_url, "--etcd-prefix", str(directory)]
        self.directory = directory
        self.socket = directory / "api.sock"
        self.database = directory / "cluster.db"
        self.config = directory / "config.json"
        self.config.write_bytes(msgspec.json.encode(CONFIG))
        self.process: subprocess.Popen[str] | None = None

    @property
    def command(self) -> list[str]:
        names = {"socket": self.socket, "database": self.database, "config": self.config}
        options = [part for name, path in names.items() for part in (f"--{name}", str(path))]
        return [sys.executable, "-m", "netlab.api.server", *options, *self.store_options]

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it serves; it listens some time before it does, and before it minds signals."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.settimeout(START_TIMEOUT)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(64)
            except OSError:
                return False

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send it a signal; its exit status and what it said."""
        assert self.process is not None
        self.process.send_signal(number)
        said = self.process.communicate(timeout=START_TIMEOUT)[1]
        status = self.process.returncode
        self.process = None
        return status, said

    def refusal(self) -> tuple[int, str]:
        """Start it where it cannot run; its exit status and what it said."""
        done = subprocess.run(self.command, check=False, capture_output=True, text=True, timeout=START_TIMEOUT)
        return done.returncode, done.stderr

    def client(self) -> Client:
        return Client(self.socket)

    def connection(self) -> socket.socket:
        """A connection, for what is to be sent byte for byte."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(START_TIMEOUT)
        connection.connect(str(self.socket))
        return connection

    def http(self) -> aiohttp.ClientSession:
        """Plain HTTP, for what the client would never send."""
        return aiohttp.ClientSession("http://api", connector=aiohttp.UnixConnector(path=str(self.socket)))


@contextlib.contextmanager
def serving(directory: Path, etcd_url: str | None = None) -> Iterator[Server]:
    server = Server(directory, etcd_url)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.end(signal.SIGKILL)


def pod(name: str, node: str = "", **labels: str) -> Pod:
    meta = ObjectMeta(name=name, namespace="default", labels=labels)
    return Pod(metadata=meta, spec=PodSpec(containers=[Container(name="c", image="agnhost:2.47")], nodeName=node))


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


Json = dict[str, Any]
