"""Volumes of the type hostPath, by what there is at their path."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netlab.api.core_types import HostPathVolumeSource
from netlab.errors import UsageError
from netlab.node import hostpaths


@pytest.mark.parametrize(
    ("kind", "there", "wrong"),
    [
        ("", "file", ""),
        ("", "", ""),
        ("Directory", "directory", ""),
        ("Directory", "", "is not a directory"),
        ("Directory", "file", "is not a directory"),
        ("DirectoryOrCreate", "", ""),
        ("DirectoryOrCreate", "file", "is not a directory"),
        ("File", "file", ""),
        ("File", "directory", "is not a file"),
        ("FileOrCreate", "", ""),
        ("Socket", "socket", ""),
        ("Socket", "file", "is not a socket file"),
        ("CharDevice", "file", "is not a character device"),
        ("BlockDevice", "", "is not a block device"),
    ],
)
def test_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, there: str, wrong: str) -> None:
    path = tmp_path / "x"
    if there == "directory":
        path.mkdir()
    elif there == "file":
        path.touch()
    elif there == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
    volume = HostPathVolumeSource(path=str(path), type=kind)
    if wrong:
        with pytest.raises(UsageError, match=f"hostPath type check failed: {path} {wrong}"):
            hostpaths.source(volume)
        return
    assert hostpaths.source(volume) == str(path)
    assert path.is_dir() == (there == "directory" or (not there and kind in ("", "DirectoryOrCreate")))
