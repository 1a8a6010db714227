"""Real kubectl against a server's Unix socket, which it reaches through a forwarder on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 60.0


def programs() -> list[str]:
    """Every kubectl there is: the one among the development dependencies, and the system's, which is older."""
    found = [shutil.which("kubectl", path=str(Path(sys.executable).parent)), shutil.which("kubectl", path="/usr/bin")]
    return [each for each in found if each is not None]


class Kubectl:
    """One kubectl with a home of its own."""

    def __init__(self, program: str, server: str, home: Path) -> None:
        self._command = [program, f"--server={server}", "--request-timeout=30s"]
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    def run(self, *arguments: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it with a standard input."""
        return subprocess.run(
            [*self._command, *arguments],
            input=text,
            env=self._environment | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def __call__(self, *arguments: str, text: str = "", **environment: str) -> str:
        """Run it, and give what it prints; it has to succeed."""
        done = self.run(*arguments, text=text, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def kubectl(program: str, path: Path) -> Iterator[Kubectl]:
    """A kubectl that talks to the server at a Unix socket."""
    with forwarded(path) as address, tempfile.TemporaryDirectory(prefix="netlab-kubectl-") as home:
        yield Kubectl(program, address, Path(home))


@contextlib.contextmanager
def forwarded(path: Path) -> Iterator[str]:
    """The address at which a Unix socket's server is reached on loopback meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, path), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, path: Path) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(str(path))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
