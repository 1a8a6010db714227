"""A lab's entries in the user's kubeconfig: what is there stays, and what was put in goes again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from netlab.errors import ConflictError, NetlabError, UsageError
from netlab.lab import access
from netlab.lab.paths import LabPaths


def config(name: str, server: str = "https://127.0.0.1:1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    made = LabPaths(tmp_path / "lab")
    made.directory.mkdir()
    return made


def names(path: Path) -> list[str]:
    return [each["name"] for each in yaml.safe_load(path.read_text())["clusters"]]


def test_a_new_file_is_the_owners_alone_and_goes_with_the_lab(paths: LabPaths, tmp_path: Path) -> None:
    path = tmp_path / "config"
    access.write(paths, config("netlab-lab"), path)
    assert yaml.safe_load(path.read_text()) == config("netlab-lab")
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    access.remove(paths)
    assert sorted(tmp_path.iterdir()) == [paths.directory]


def test_entries_of_others_stay(paths: LabPaths, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text(yaml.safe_dump(config("other") | {"extensions": [{"name": "kept"}]}))
    real.chmod(0o640)
    link.symlink_to(real)
    access.write(paths, config("netlab-lab"), link)
    assert names(real) == ["other", "netlab-lab"]
    assert yaml.safe_load(real.read_text())["current-context"] == "netlab-lab"
    access.remove(paths)
    assert yaml.safe_load(real.read_text()) == config("other") | {
        "extensions": [{"name": "kept"}],
        "current-context": "",
    }
    assert link.is_symlink()
    assert oct(real.stat().st_mode & 0o777) == "0o640"


def test_writing_again_replaces_what_this_lab_wrote(paths: LabPaths, tmp_path: Path) -> None:
    path = tmp_path / "config"
    access.write(paths, config("netlab-lab"), path)
    access.write(paths, config("netlab-lab", "https://127.0.0.1:2"), path)
    assert yaml.safe_load(path.read_text())["clusters"] == config("netlab-lab", "https://127.0.0.1:2")["clusters"]


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (yaml.safe_dump(config("netlab-lab")), ConflictError, "that this lab did not write"),
        ("not: [a", UsageError, "is no kubeconfig"),
        ("- 1", UsageError, "is no kubeconfig"),
        ("kind: Pod", UsageError, "is no kubeconfig"),
        ("clusters: 3", UsageError, "is no kubeconfig"),
        ("clusters: [{name: 3}]", UsageError, "is no kubeconfig"),
        ("[" * 100_000, UsageError, "is no kubeconfig"),
        ("#" * (2 << 20), UsageError, "is no kubeconfig"),
    ],
)
def test_a_foreign_file_is_left_alone(
    paths: LabPaths, tmp_path: Path, content: str, kind: type[NetlabError], said: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(kind, match=said):
        access.write(paths, config("netlab-lab"), path)
    access.remove(paths)
    assert path.read_text() == content
    assert sorted(tmp_path.iterdir()) == [path, paths.directory]


def test_a_file_that_is_being_changed_is_not_changed(paths: LabPaths, tmp_path: Path) -> None:
    (tmp_path / "config.lock").touch()
    with pytest.raises(ConflictError, match="another program"):
        access.write(paths, config("netlab-lab"), tmp_path / "config")
    assert not (tmp_path / "config").exists()


def test_no_pipe_is_waited_for(paths: LabPaths, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config")
    with pytest.raises(UsageError, match="is no kubeconfig"):
        access.write(paths, config("netlab-lab"), tmp_path / "config")


@pytest.mark.parametrize("noted", [b"relative\n", b"\xff\n", b"\n", b"/dev/zero\n"])
def test_what_is_no_file_is_not_removed(paths: LabPaths, noted: bytes) -> None:
    paths.kubeconfig.write_bytes(noted)
    access.remove(paths)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_note_does_not_count(paths: LabPaths, tmp_path: Path) -> None:
    path = tmp_path / "config"
    access.write(paths, config("netlab-lab"), path)
    os.chown(paths.kubeconfig, 12345, 12345)
    access.remove(paths)
    assert names(path) == ["netlab-lab"]
