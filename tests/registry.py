"""A registry of images of a test's own, on the loopback: Debian's docker-registry."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.images import docker_archive
from tests.system.machine.lab import wait_until

PROGRAMS = ("docker-registry", "skopeo")
LACKING = not all(map(shutil.which, PROGRAMS))
REASON = f"the host lacks one of {', '.join(PROGRAMS)}"
# bcrypt of "secret", as htpasswd -B writes it.
_PASSWORDS = "user:$2y$05$dyHWLmfs8CCeWlRx/GVtcOuUnWQHm0mN12P2RpVucI1ey0eI9zKxi\n"


@contextlib.contextmanager
def serving(folder: Path, *, password: bool = False) -> Iterator[str]:
    """Its HOST:PORT; it speaks plain HTTP. With a password, only `user` with `secret` may ask it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "passwords").write_text(_PASSWORDS)
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(folder / "passwords")}}} if password else {}
    configuration = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address, "secret": "x"},
        **auth,
    }
    (folder / "registry.yml").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(address), "the registry answers")
        yield address
    finally:
        server.kill()
        server.wait()


def push(folder: Path, name: str, layers: list[bytes], *, flags: tuple[str, ...] = (), **process: object) -> None:
    """Give a registry an image of that name; `process` is the configuration's, `flags` are skopeo's."""
    archive = docker_archive(folder / "pushed.tar", name, layers, **process)
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", *flags]
    subprocess.run([*copy, f"docker-archive:{archive}", f"docker://{name}"], check=True)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
