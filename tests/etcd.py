"""An etcd of the tests' own, as a lab runs it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.api.server.storage.etcd_gateway import AwayError, Gateway, UncertainError
from netlab.lab import etcd

START_TIMEOUT = 30.0


class EtcdServer:
    """One data directory, and the etcd that works on it while it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = etcd.url(directory)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                etcd.command(self.directory, *options), cwd=self.directory, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "etcd does not come up"
            time.sleep(0.01)

    def answers(self) -> bool:
        with contextlib.closing(Gateway(self.url)) as gateway:
            try:
                gateway.call("kv/range", {"key": "YQ=="})
            except (AwayError, UncertainError):
                return False
            return True

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running(*options: str) -> Iterator[EtcdServer]:
    """An etcd in a directory of its own, with a short path; the test is skipped where there is no etcd."""
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd (Debian: etcd-server)")
    with tempfile.TemporaryDirectory(prefix="netlab-etcd-") as directory:
        server = EtcdServer(Path(directory))
        server.start(*options)
        try:
            yield server
        finally:
            server.end()
