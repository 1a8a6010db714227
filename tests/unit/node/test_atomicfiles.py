"""A volume's files change all at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from netlab.errors import UsageError
from netlab.node import atomicfiles
from netlab.node.atomicfiles import File


def _contents(*names: str, text: str = "x") -> dict[str, File]:
    return {name: File(text.encode(), 0o640) for name in names}


def _version(directory: Path) -> str:
    return (directory / "..data").readlink().name


def _visible(directory: Path) -> dict[str, str]:
    return {path.name: str(path.readlink()) for path in directory.iterdir() if not path.name.startswith("..")}


def test_one_link_leads_to_a_version(tmp_path: Path) -> None:
    atomicfiles.write(tmp_path, _contents("a", "deep/er/b"))
    assert _visible(tmp_path) == {"a": "..data/a", "deep": "..data/deep"}
    assert (tmp_path / "deep/er/b").read_text() == "x"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    atomicfiles.write(tmp_path, _contents("a"))
    before = _version(tmp_path)
    (tmp_path / "a").unlink()
    atomicfiles.write(tmp_path, _contents("a"))
    assert (_version(tmp_path), _visible(tmp_path)) == (before, {"a": "..data/a"})
    atomicfiles.write(tmp_path, {"a": File(b"x", 0o600)})
    assert _version(tmp_path) != before


def test_a_version_replaces_the_one_before_whole(tmp_path: Path) -> None:
    atomicfiles.write(tmp_path, _contents("a", "old/b"))
    mounted = (tmp_path / "a").open()
    atomicfiles.write(tmp_path, _contents("a", "new/b", text="y"))
    assert _visible(tmp_path) == {"a": "..data/a", "new": "..data/new"}
    assert (tmp_path / "a").read_text() == "y"
    assert len(list(tmp_path.glob("..2*"))) == 1
    # Who has a file of the old version open, or mounted, keeps that one.
    assert mounted.read() == "x"
    mounted.close()


def test_what_a_killed_kubelet_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01_00_00_00.left").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2026_01_01_00_00_00.left")
    atomicfiles.write(tmp_path, _contents("a"))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "..data", _version(tmp_path)}


def test_a_group_may_read(tmp_path: Path) -> None:
    atomicfiles.write(tmp_path, {"deep/a": File(b"x", 0o600)}, group=os.getegid())
    assert stat.S_IMODE((tmp_path / "deep/a").stat().st_mode) == 0o640
    for folder in (tmp_path, tmp_path / "..data", tmp_path / "deep"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2755
    before = _version(tmp_path)
    atomicfiles.write(tmp_path, {"deep/a": File(b"x", 0o600)}, group=os.getegid())
    assert _version(tmp_path) == before


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "..data", "..x/a"])
def test_no_file_is_elsewhere(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="is not inside of it"):
        atomicfiles.write(tmp_path, _contents(path))
    assert list(tmp_path.iterdir()) == []
