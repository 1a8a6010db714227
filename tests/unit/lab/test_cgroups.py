"""What a lab noted about its cgroups, and what `down` makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netlab.lab import cgroups
from netlab.lab.paths import LabPaths


@pytest.fixture
def lab(tmp_path: Path) -> LabPaths:
    (tmp_path / "lab").mkdir()
    return LabPaths(tmp_path / "lab")


def cgroup(path: Path) -> Path:
    """A directory that looks like a cgroup, but has an ordinary file, so that rmdir(2) would fail."""
    path.mkdir()
    (path / "cgroup.procs").touch()
    return path


def test_what_is_gone_is_forgotten(lab: LabPaths) -> None:
    cgroups.give_back(lab)
    lab.cgroups.write_text("/sys/fs/cgroup/netlab-never-was\n")
    cgroups.give_back(lab)
    assert not lab.cgroups.exists()


def test_what_is_no_labs_cgroup_is_left_alone(lab: LabPaths) -> None:
    directory = lab.directory.parent
    empty, link = directory / "netlab-empty", directory / "netlab-link"
    empty.mkdir()
    other = cgroup(directory / "other")
    link.symlink_to(other)
    lab.cgroups.write_text(f"{empty}\n{other}\n{link}\n\n/\nrelative\n")
    cgroups.give_back(lab)
    assert (empty.is_dir(), other.is_dir(), link.is_symlink()) == (True, True, True)


def test_a_note_of_another_user_is_not_read(lab: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.cgroups.write_text("/sys/fs/cgroup/netlab-anothers\n")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if lab.cgroups.stat().st_uid == 0:
        os.chown(lab.cgroups, 4243, 4243)
    cgroups.give_back(lab)
    assert lab.cgroups.exists()
