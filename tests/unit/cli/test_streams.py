"""Standard output may be closed, full, or read no further: one line or none, and a status of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [["--help"], ["list"], ["completion", "bash"], ["scenario", "list"], ["scenario", "show", "08-hairpin"]]


def netlab(arguments: list[str], redirection: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run it with its standard streams as a shell has them."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "netlab", *arguments],
        env={"NETLAB_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_or_closed_output_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    full = netlab(arguments, ">/dev/full", tmp_path)
    assert full.stderr == "netlab: standard output cannot be written to: No space left on device\n"
    assert full.returncode == 7
    closed = netlab(arguments, ">&-", tmp_path)
    assert closed.stderr == "netlab: standard output cannot be written to: it is closed\n"
    assert closed.returncode == 1
    assert netlab(arguments, "<&- >&- 2>&-", tmp_path).returncode == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    end, gone = os.pipe()
    os.close(end)
    with open(gone, "wb") as pipe:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "netlab", *arguments],
            env={"NETLAB_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_is_told_and_a_closed_error_output_harms_nothing(tmp_path: Path) -> None:
    assert netlab(["scenario", "show", "none"], ">&-", tmp_path).returncode == 3
    assert netlab(["bogus"], ">&- 2>&-", tmp_path).returncode == 2
