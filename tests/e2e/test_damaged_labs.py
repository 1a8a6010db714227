"""A lab whose lab.json is damaged does not hide the others, and can be removed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab

GOOD = b'{"nodes": 2, "proxy": "iptables"}'

DAMAGES: dict[str, bytes | Callable[[Path], None]] = {
    "empty": b"",
    "no-json": b"\0\xff{",
    "no-object": b"[1]",
    "wrong-type": b'{"nodes": "two"}',
    "unknown-field": b'{"nodez": 2}',
    "impossible": b'{"nodes": 0}',
    "no-family": b'{"families": []}',
    "no-address": b'{"podCIDRs": ["\\u001b]0;x\\u0007"]}',
    "folder": Path.mkdir,
    "dangling": lambda path: path.symlink_to("nowhere"),
    "forbidden": lambda path: path.touch(0),
}


@pytest.fixture
def netlab() -> Iterator[Netlab]:
    """A netlab with a home of its own; no lab in it ever runs."""
    # Not pytest's own temporary directory: its paths are too long for a Unix socket's.
    with tempfile.TemporaryDirectory(prefix="netlab-") as home:
        program = Netlab(Path(home))
        yield program
        program.ok("down", "--all")
        assert list(program.home.iterdir()) == []


def _make(netlab: Netlab, name: str, content: bytes | Callable[[Path], None]) -> None:
    (netlab.home / name).mkdir(0o700)
    path = netlab.home / name / "lab.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_lab_among_others(netlab: Netlab, damage: str) -> None:
    _make(netlab, damage, DAMAGES[damage])
    for name in ("aaa", "zzz"):
        _make(netlab, name, GOOD)
    for form in ("wide", "json", "yaml"):
        done = netlab.run("list", "-o", form)
        assert done.returncode == 1
        assert all(name in done.stdout for name in ("aaa", "zzz")), done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"netlab: lab {damage}: {netlab.home / damage}/lab.json cannot be read: ")
        assert line.endswith(f"; `netlab down --name {damage}` removes the lab")
        assert line.isprintable()
    for command in ("status", "topology"):
        assert "cannot be read" in netlab.fails(1, command, "--name", damage)
    words = {"COMP_WORDS": "netlab status --name ", "COMP_CWORD": "3", "_NETLAB_COMPLETE": "bash_complete"}
    before, netlab.environment = netlab.environment, netlab.environment | words
    try:
        assert {damage, "aaa", "zzz"} == {line.partition(",")[2] for line in netlab.ok().splitlines()}
    finally:
        netlab.environment = before
    netlab.ok("down", "--name", damage)
    assert [each["name"] for each in netlab.json("list")] == ["aaa", "zzz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is kept from root")
def test_a_lab_that_cannot_be_removed_does_not_keep_the_others(netlab: Netlab) -> None:
    for name in ("aaa", "bbb", "zzz"):
        _make(netlab, name, GOOD)
    (netlab.home / "aaa").chmod(0o500)
    (netlab.home / "bbb").chmod(0o500)
    done = netlab.run("down", "--all")
    assert done.returncode == 1
    assert done.stdout.startswith("lab zzz: down")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        f"{netlab.home / name}/lab.json" for name in ("aaa", "bbb")
    ]
    for name in ("aaa", "bbb"):
        (netlab.home / name).chmod(0o700)
