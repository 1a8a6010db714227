"""Processes remembered in files that somebody else may have written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netlab.lab import process


def test_a_process_is_known_by_pid_and_start(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with subprocess.Popen(["sleep", "1000"]) as child:
        process.record(path, child.pid)
        pidfd = process.open_recorded(path)
        assert pidfd is not None
        assert not process.ended(pidfd, 0)
        path.write_text(path.read_text().replace(" ", " 1"))
        assert process.open_recorded(path) is None
        process.end(pidfd, 10)
        os.close(pidfd)


def test_what_another_user_wrote_down_names_only_that_users_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    process.record(path, os.getpid())
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((*real(fd)[:4], 4242, *real(fd)[5:])))
    assert process.open_recorded(path) is None
