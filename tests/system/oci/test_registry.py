"""Pulling from a registry of the test's own on the loopback, with a password."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.errors import NetlabError, UnsupportedError
from netlab.oci import registries
from netlab.oci.store import Store
from tests.images import docker_archive, layer, member
from tests.system.machine.lab import wait_until

_PROGRAMS = ("docker-registry", "skopeo")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, _PROGRAMS)), reason=f"the host lacks one of {', '.join(_PROGRAMS)}"
)
LAYERS = [layer([member("file", b"text")])]
# bcrypt of "secret", as htpasswd -B writes it.
PASSWORDS = "user:$2y$05$dyHWLmfs8CCeWlRx/GVtcOuUnWQHm0mN12P2RpVucI1ey0eI9zKxi\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its HOST:PORT; it has the image app:1, and skopeo is told by files that it speaks plain HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "passwords").write_text(PASSWORDS)
    configuration = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address, "secret": "x"},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "passwords")}},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(configuration))
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (".config/containers", ".docker"):
        (tmp_path / folder).mkdir(parents=True)
    plain = f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
    (tmp_path / ".config/containers/registries.conf").write_text(plain)
    _know(tmp_path, address, "user:secret")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(address), "the registry answers")
        archive = docker_archive(tmp_path / "app.tar", f"{address}/app:1", LAYERS)
        pushed = [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            f"docker-archive:{archive}",
            f"docker://{address}/app:1",
        ]
        subprocess.run(pushed, check=True)
        yield address
    finally:
        server.kill()
        server.wait()


def _know(tmp_path: Path, address: str, password: str) -> None:
    auth = base64.b64encode(password.encode()).decode()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_pulling(registry: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    record, names = registries.pull(store, f"{registry}/app:1")
    assert (names, record.size) == ([f"{registry}/app:1"], 4)
    assert registries.pull(store, f"{registry}/app@{record.digest}")[0].id == record.id
    with pytest.raises(NetlabError, match=f"image {registry}/none:latest was not pulled: .*manifest unknown"):
        registries.pull(store, f"{registry}/none")
    blob = next(each for each in (tmp_path / "registry").rglob("data") if each.read_bytes()[:2] == b"\x1f\x8b")
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    store.remove(f"{registry}/app:1")
    store.remove(f"{registry}/app@{record.digest}")
    with pytest.raises(NetlabError, match="was not pulled"):
        registries.pull(store, f"{registry}/app:1")
    _know(tmp_path, registry, "user:wrong")
    with pytest.raises(NetlabError, match=r"authentication required|unauthorized"):
        registries.pull(store, f"{registry}/app:1")
    assert store.images() == []


def test_without_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="pulling images needs skopeo"):
        registries.pull(Store(tmp_path / "store"), "busybox")
