"""The doctor on machines made to lack something: user namespaces of a test's own, with limits of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from netlab.net import syscalls

_ORDINARY = 1000


def _limited(limits: Mapping[str, int]) -> None:
    """Be an ordinary user whose user namespace allows so many namespaces of each kind (namespaces(7), user.max_*)."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_ORDINARY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_ORDINARY} {gid} 1")
    for name, most in limits.items():
        Path(f"/proc/sys/user/max_{name}_namespaces").write_text(str(most))


def _doctor(home: Path, limits: Mapping[str, int] | None = None, **environment: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "netlab", "doctor", "-o", "json"],
        env={**os.environ, "NETLAB_HOME": str(home), **environment},
        preexec_fn=None if limits is None else lambda: _limited(limits),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}, done.stderr


def test_a_machine_that_has_everything_passes(tmp_path: Path) -> None:
    status, found, error = _doctor(tmp_path)
    assert {name: check["found"] for name, check in found.items() if check["status"] in ("failed", "untried")} == {}
    assert (status, error) == (0, "")


@pytest.mark.parametrize(
    ("limits", "name", "reason", "remedy"),
    [
        ({"user": 0}, "user namespaces", "refused", "sysctl user.max_user_namespaces=15000"),
        ({"net": 0}, "namespaces", "network namespaces: No space left on device", "run netlab as root"),
        ({"pid": 0}, "namespaces", "pid namespaces: No space left on device", "run netlab as root"),
    ],
)
def test_refused_namespaces_fail_with_the_remedy_and_close_the_way_to_the_rest(
    limits: dict[str, int], name: str, reason: str, remedy: str, tmp_path: Path
) -> None:
    status, found, error = _doctor(tmp_path, limits)
    assert found[name]["status"] == "failed"
    assert reason in found[name]["found"]
    assert remedy in found[name]["remedy"]
    assert found["veth"]["status"] == "untried"
    assert found["nft NAT"]["status"] == "untried"
    assert found["kernel"]["status"] == "passed"
    assert status == 9
    assert error == f"netlab: labs do not work here without {name}; the remedies are above\n"


def test_a_directory_that_takes_no_files_fails() -> None:
    status, found, _ = _doctor(Path("/proc/labs"))
    assert (found["disk"]["status"], status) == ("failed", 9)


def test_a_program_that_refuses_says_why(tmp_path: Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo nftables v0 && exit\necho 'Error: no such feature' >&2; exit 1\n"
    )
    nft.chmod(0o755)
    status, found, _ = _doctor(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert found["nft"]["found"] == "nftables v0"
    assert found["nft fib"]["found"] == "nft: Error: no such feature"
    assert status == 9


def test_the_table_tells_cost_and_remedy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netlab", "doctor"],
        env={**os.environ, "NETLAB_HOME": "/proc/labs"},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["CHECK", "STATUS"] in rows
    assert ["disk", "failed"] in rows
    assert "    costs   a lab cannot keep its objects" in done.stdout
    assert "    remedy  make room, or set NETLAB_HOME" in done.stdout
