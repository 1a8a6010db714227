"""Pulling from a registry of the test's own on the loopback, with a password."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.errors import NetlabError, UnsupportedError
from netlab.oci import registries
from netlab.oci.store import Store
from tests import registry as registry_of_test
from tests.images import layer, member

pytestmark = pytest.mark.skipif(registry_of_test.LACKING, reason=registry_of_test.REASON)
LAYERS = [layer([member("file", b"text")])]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its HOST:PORT; it has the image app:1, and skopeo is told by files that it speaks plain HTTP."""
    with registry_of_test.serving(tmp_path, password=True) as address:
        monkeypatch.setenv("HOME", str(tmp_path))
        for folder in (".config/containers", ".docker"):
            (tmp_path / folder).mkdir(parents=True)
        plain = f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
        (tmp_path / ".config/containers/registries.conf").write_text(plain)
        _know(tmp_path, address, "user:secret")
        registry_of_test.push(tmp_path, f"{address}/app:1", LAYERS)
        yield address


def _know(tmp_path: Path, address: str, password: str) -> None:
    auth = base64.b64encode(password.encode()).decode()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))


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
