"""The doctor on machines made to lack something: user namespaces of a test's own, with limits of their own."""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from netlab.machine import privileges
from netlab.machine.capabilities import DEFAULT
from netlab.machine.userns import enter_user_namespace
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


def _as_root() -> None:
    """Be root, of a user namespace of one's own if need be."""
    if os.geteuid() != 0:
        enter_user_namespace()


def _contained() -> None:
    """Be root as in a container: without CAP_SYS_ADMIN and CAP_NET_ADMIN."""
    _as_root()
    DEFAULT.bound()
    DEFAULT.take()


def _filtered() -> None:
    """Be root where a seccomp filter refuses unshare(2), as container runtimes have it."""
    _as_root()
    number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
    # linux/bpf_common.h, linux/seccomp.h: load the system call's number; refuse that one with EPERM, allow the rest.
    program = b"".join(
        struct.pack("=HBBI", *each)
        for each in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000))
    )
    code = ctypes.create_string_buffer(program)
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.create_string_buffer(filter_), 0, 0) == 0, os.strerror(ctypes.get_errno())


def _run(
    *arguments: str, home: Path, prepare: Callable[[], None] | None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netlab", *arguments],
        env={**os.environ, "NETLAB_HOME": str(home), **environment},
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        check=False,
    )


def _doctor(home: Path, limits: Mapping[str, int] | None = None, **environment: str) -> tuple[int, dict[str, Any], str]:
    prepare = None if limits is None else lambda: _limited(limits)
    done = _run("doctor", "-o", "json", home=home, prepare=prepare, **environment)
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}, done.stderr


def test_a_machine_that_has_everything_passes(tmp_path: Path) -> None:
    status, found, error = _doctor(tmp_path)
    missing = {name: check["found"] for name, check in found.items() if check["status"] in ("failed", "untried")}
    lacks_module = missing.pop("br_netfilter", None)  # only the host's root can load it
    assert missing == {}
    assert lacks_module or (status, error) == (0, "")


@pytest.mark.parametrize(
    ("limits", "name", "reason", "remedy"),
    [
        ({"user": 0}, "user namespaces", "refused", "sysctl user.max_user_namespaces=15000"),
        (
            {"net": 0},
            "namespaces",
            "network namespaces: No space left on device",
            "sysctl user.max_net_namespaces=15000",
        ),
        ({"pid": 0}, "namespaces", "pid namespaces: No space left on device", "sysctl user.max_pid_namespaces=15000"),
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


LACKING = "CAP_SYS_ADMIN, CAP_NET_ADMIN"
ADDED = "--cap-add=SYS_ADMIN --cap-add=NET_ADMIN"


@pytest.mark.parametrize(
    ("prepare", "check", "found", "remedy"),
    [
        (_contained, "capabilities", f"root without {LACKING}", f"this root lacks {LACKING}: "),
        (_filtered, "namespaces", "network namespaces: Operation not permitted", "--security-opt seccomp=unconfined"),
    ],
)
def test_root_who_may_not_is_told_what_is_missing(
    prepare: Callable[[], None], check: str, found: str, remedy: str
) -> None:
    with tempfile.TemporaryDirectory() as home:  # pytest's own has too long a path for a socket
        done = _run("doctor", "-o", "json", home=Path(home), prepare=prepare)
        up = _run("up", home=Path(home), prepare=prepare)
        assert list(Path(home).iterdir()) == []
    finding = {each["name"]: each for each in json.loads(done.stdout)}[check]
    assert (done.returncode, finding["status"], finding["found"]) == (9, "failed", found)
    assert remedy in finding["remedy"]
    assert "as root" not in finding["remedy"]
    assert up.returncode == 5
    assert remedy in up.stderr
    assert "as root" not in up.stderr


def test_the_flags_of_a_container_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(privileges, "_CONTAINERS", (str(tmp_path),))
    monkeypatch.setattr(privileges, "missing", lambda: ["SYS_ADMIN", "NET_ADMIN"])
    assert f"start the container with {ADDED}, or with --privileged" in privileges.remedy(ordinary=False)
    assert f"or run netlab as root in one with {ADDED}" in privileges.remedy(ordinary=True)


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
