"""Texts of the kernel become numbers: processes, cgroups of both versions, interfaces."""

from __future__ import annotations

import pytest

from netlab.node.stats import counters, processes
from netlab.node.stats.counters import Rising
from netlab.node.stats.processes import Process
from netlab.node.stats.usage import Interface, Memory, Throttling, Usage

STAT = "27 (a) b (c) S 1 27 0 0 -1 4194560 316 9 2 1 150 50 7 3 20 0 4 0 4096 7438336 752 18446744073709551615"
SMAPS = """\
00400000-7ffd5000 ---p 00000000 00:00 0    [rollup]
Rss:               18988 kB
Pss:                5067 kB
Pss_Anon:           5045 kB
Pss_File:             22 kB
SwapPss:              12 kB
THPeligible:    0
"""


def test_a_process_is_what_proc_says() -> None:
    opened = ["socket:[1]", "/dev/null", "pipe:[2]", "socket:[3]"]
    process = processes.read(27, 4026, STAT, SMAPS, opened, ticks=100)
    memory = Memory(5067 * 1024, 5067 * 1024, 5045 * 1024, 22 * 1024, 12 * 1024, 316, 2)
    assert process == Process(27, 1, 4026, Usage(2_100_000_000, memory, 1, 4, descriptors=4, sockets=2))


def test_of_a_process_that_has_ended_or_is_hidden_only_its_time_is_known() -> None:
    used = processes.read(27, 0, STAT, "", [], ticks=100).usage
    assert (used.cpu, used.memory.usage, used.descriptors) == (2_100_000_000, 0, 0)
    with pytest.raises(ValueError, match="process 9"):
        processes.read(9, 0, "", "", [], ticks=100)


def a_process(pid: int, parent: int, mounts: int) -> Process:
    # A decimal place each, so that a sum shows whose they are.
    return Process(pid, parent, mounts, Usage(cpu=10**pid, processes=1))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([(1, 0, 1), (2, 1, 7), (3, 2, 7)], {"web": 1100, None: 10}, id="its pid 1 and a child"),
        pytest.param([(1, 0, 1), (2, 1, 7), (3, 0, 7)], {"web": 1100, None: 10}, id="a command from outside"),
        pytest.param([(2, 1, 7), (3, 2, 8), (4, 3, 9)], {"web": 11100, None: 0}, id="mount namespaces of its own"),
        pytest.param([(2, 1, 7), (3, 4, 8), (4, 3, 8)], {"web": 100, None: 11000}, id="parents that changed meanwhile"),
        pytest.param([(1, 0, 1)], {"web": 0, None: 10}, id="a container that has ended"),
        pytest.param([(2, 1, 0), (3, 2, 0), (4, 1, 0)], {"web": 1100, None: 10000}, id="nothing may be looked into"),
    ],
)
def test_each_process_is_counted_once(found: list[tuple[int, int, int]], expected: dict[str | None, int]) -> None:
    totals = processes.by_container({pid: a_process(pid, *rest) for pid, *rest in found}, {"web": 2})
    assert {name: usage.cpu for name, usage in totals.items()} == expected


ELSE = Usage(cpu=5, memory=Memory(1, 1, 1), processes=2, threads=3, descriptors=4)
V2 = {
    "memory.current": "9000\n",
    "memory.swap.current": "70\n",
    "memory.stat": "anon 5000\nfile 3000\ninactive_file 2000\npgfault 11\npgmajfault 1\n",
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nnr_periods 9\nnr_throttled 4\nthrottled_usec 250\n",
}
V1 = {
    "memory.usage_in_bytes": "9000\n",
    "memory.stat": "rss 1\ntotal_rss 5000\ntotal_cache 3000\ntotal_inactive_file 2000\ntotal_swap 70\n"
    "total_pgfault 11\ntotal_pgmajfault 1\n",
    "cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 250000\n",
}
COUNTED = Memory(9000, 7000, 5000, 3000, 70, 11, 1)
THROTTLED = Throttling(9, 4, 250_000)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param({}, ELSE, id="none"),
        pytest.param(V2, Usage(1_500_000, COUNTED, 2, 3, 4, 0, THROTTLED), id="v2"),
        pytest.param(V1, Usage(5, COUNTED, 2, 3, 4, 0, THROTTLED), id="v1, processor time elsewhere"),
        pytest.param(V1 | {"cpuacct.usage": "77\n"}, Usage(77, COUNTED, 2, 3, 4, 0, THROTTLED), id="v1, cpuacct"),
        pytest.param(
            {"cpu.stat": V2["cpu.stat"]}, Usage(1_500_000, ELSE.memory, 2, 3, 4, 0, THROTTLED), id="no memory"
        ),
    ],
)
def test_a_cgroup_knows_better_than_its_processes(texts: dict[str, str], expected: Usage) -> None:
    assert counters.of_cgroup(texts, ELSE) == expected


def test_the_working_set_is_never_less_than_nothing() -> None:
    texts = V2 | {"memory.current": "1000\n"}
    assert counters.of_cgroup(texts, ELSE).memory.working_set == 0


def test_interfaces_but_the_loopback() -> None:
    text = (
        "Inter-|   Receive  |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls\n"
        "    lo: 168 2 0 0 0 0 0 0 168 2 0 0 0 0 0 0\n"
        "  eth0: 580 6 1 2 0 0 0 0 1000 7 3 4 0 0 0 0\n"
    )
    assert counters.interfaces(text) == [Interface("eth0", 580, 6, 1, 2, 1000, 7, 3, 4)]


def test_processor_time_never_goes_back_and_its_rate_is_that_of_a_second_or_more() -> None:
    rising = Rising()
    told = [
        rising.read("web", raw, moment)
        for raw, moment in ((100, 0.0), (600, 0.5), (1100, 2.0), (300, 4.0), (500, 6.0), (500, 6.1))
    ]
    assert [each.total for each in told] == [100, 600, 1100, 1100, 1300, 1300]
    assert [each.rate for each in told] == [None, None, 500, 0, 100, 100]
    rising.keep({"other"})
    assert rising.read("web", 7, 9.0).total == 7
