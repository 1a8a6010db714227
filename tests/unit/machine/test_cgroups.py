"""Where a lab's cgroups may be, by what the kernel says about hierarchies, and what is written there."""

from __future__ import annotations

import pytest

from netlab.machine.cgroups.hierarchies import Hierarchy, Level, choose, read
from netlab.machine.cgroups.limits import settings

V2 = "25 20 0:22 {} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "30 25 0:27 {} /sys/fs/cgroup/{} rw - cgroup cgroup rw,{}"
BIND = "31 25 0:27 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"


@pytest.mark.parametrize(
    ("memberships", "mounts", "expected"),
    [
        ("0::/user.slice/s.scope", [V2.format("/")], [(2, "/sys/fs/cgroup/user.slice/s.scope", "")]),
        ("0::/", [V2.format("/")], [(2, "/sys/fs/cgroup", "")]),
        # A container without a cgroup namespace sees its part of the tree alone.
        ("0::/docker/1/x", [V2.format("/docker/1")], [(2, "/sys/fs/cgroup/x", "")]),
        ("0::/docker/10", [V2.format("/docker/1")], []),
        ("0::/../other", [V2.format("/")], []),
        ("4:memory:/docker/1", [BIND], [(1, "/sys/fs/cgroup/memory", "memory")]),
        (
            "4:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/b",
            [V1.format("/", "memory", "memory"), V1.format("/", "cpu,cpuacct", "cpu,cpuacct"), V2.format("/")],
            [
                (1, "/sys/fs/cgroup/memory/a", "memory"),
                (1, "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
                (2, "/sys/fs/cgroup/b", ""),
            ],
        ),
        ("0::/", [], []),
        ("", ["22 1 8:1 / / rw - ext4 /dev/sda1 rw"], []),
    ],
)
def test_hierarchies_are_read(memberships: str, mounts: list[str], expected: list[tuple[int, str, str]]) -> None:
    found = read(memberships, "\n".join(mounts))
    assert [(each.version, each.own, ",".join(sorted(each.controllers))) for each in found] == expected
    assert all(isinstance(each, Hierarchy) and each.own.startswith(each.mount) for each in found)


def level(
    path: str, given: str = "", *, has: str = "cpu memory pids io", writable: bool = True, ours: bool = False
) -> Level:
    return Level(path, writable, ours, frozenset(has.split()), frozenset(given.split()))


SESSION = level("/user.slice/user-1.slice/session-1.scope", writable=False)
SLICES = [
    level("/user.slice/user-1.slice", "memory pids", writable=False),
    level("/user.slice", "memory pids", writable=False),
]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        # An ordinary user in a session: nothing of the way up is the user's.
        ([SESSION, *SLICES], None),
        # Root in a session: beside it.
        ([level("/s/session"), level("/s", "memory pids"), level("/", "cpu memory pids")], ("/s", "memory pids")),
        # A terminal of a desktop, below the user's manager.
        (
            [level("/u/app/term"), level("/u/app", "memory pids"), level("/u", "cpu memory pids")],
            ("/u/app", "memory pids"),
        ),
        # A scope made for the lab: its own controllers are this process's to give.
        (
            [level("/u/app/lab.scope", ours=True), level("/u/app", "memory pids")],
            ("/u/app/lab.scope", "cpu memory pids"),
        ),
        # A container: its own cgroup has processes, and nothing is above it.
        ([level("/")], None),
        # Something is better than nothing, and memory better than something.
        ([level("/a"), level("/", "pids")], ("/", "pids")),
        ([level("/a/b"), level("/a", "pids"), level("/", "memory pids")], ("/", "memory pids")),
        # This machine keeps all controllers in cgroup v1.
        ([level("/", has="", ours=True)], None),
    ],
)
def test_the_nearest_cgroup_that_limits_memory_is_chosen(levels: list[Level], expected: tuple[str, str] | None) -> None:
    chosen = choose(levels)
    assert (None if chosen is None else (chosen.path, " ".join(sorted(chosen.usable)))) == expected


@pytest.mark.parametrize(
    ("version", "controller", "limit", "expected"),
    [
        (2, "memory", 65536, [("memory.max", "65536"), ("memory.swap.max", "0")]),
        (1, "memory", 65536, [("memory.limit_in_bytes", "65536"), ("memory.memsw.limit_in_bytes", "65536")]),
        (2, "pids", 100, [("pids.max", "100")]),
        (1, "pids", 100, [("pids.max", "100")]),
        (2, "cpu", 1500, [("cpu.max", "150000 100000")]),
        (1, "cpu", 1500, [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")]),
        (2, "cpu", 1, [("cpu.max", "1000 100000")]),
    ],
)
def test_limits_are_written_as_the_kernel_reads_them(
    version: int, controller: str, limit: int, expected: list[tuple[str, str]]
) -> None:
    assert list(settings(version, controller, limit)) == expected
