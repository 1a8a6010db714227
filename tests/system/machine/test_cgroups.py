"""What a lab and its containers may use of the host, where cgroups limit them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.errors import ExhaustedError
from netlab.machine.cgroups import hierarchies
from netlab.machine.cgroups.limits import Limits
from netlab.machine.join import run_joined
from tests.system.machine.lab import Lab, forked, wait_until

LACKING = hierarchies.find().lacking
MIB = 1 << 20
EATS = "x = bytearray({} << 20); print('has eaten')"

pytestmark = pytest.mark.skipif(bool({"memory", "pids"} & LACKING.keys()), reason=f"{LACKING}")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab with room for itself and some 200 MiB more."""
    with Lab(limits=Limits(memory=256 * MIB, pids=400)) as bounded:
        bounded.node.run_container(bounded.spec("other", image="pause", command=[]))
        yield bounded


def eats(mebibytes: int) -> list[str]:
    """A command that takes memory, and ends."""
    return [sys.executable, "-c", EATS.format(mebibytes)]


def of(lab: Lab, container: str, controller: str) -> list[Path]:
    """The cgroups of a container that have a controller."""
    return [
        path
        for each in lab.cgroups
        if controller in each.controllers
        for path in Path(each.delegated).iterdir()
        if path.name == f"node-1:{container}"
    ]


def test_what_takes_the_labs_memory_ends_and_the_lab_goes_on(lab: Lab) -> None:
    ended = lab.run("hog", *eats(1024))
    assert (ended.exit_code, ended.signal) == (137, 9)
    assert lab.node.exec("other", ["echo", "goes on"], 60).output == b"goes on\n"
    assert lab.on_node("echo", "goes on") == "goes on\n"


def test_a_container_has_its_own_share(lab: Lab) -> None:
    """More than its limit ends it, and nobody else; less does not."""
    ended = lab.run("small", *eats(100), memory_limit=64 * MIB)
    assert (ended.exit_code, ended.out_of_memory) == (137, True)
    ended = lab.run("enough", *eats(20), memory_limit=64 * MIB)
    assert (ended.exit_code, ended.out_of_memory) == (0, False)
    assert lab.status("other").running


def test_what_runs_in_a_container_later_has_its_limits_too(lab: Lab) -> None:
    lab.node.run_container(lab.spec("limited", image="pause", command=[], memory_limit=64 * MIB))
    assert lab.node.exec("limited", eats(20), 60).output == b"has eaten\n"
    assert b"has eaten" not in lab.node.exec("limited", eats(100), 60).output
    if lab.status("limited").running:
        lab.node.kill("limited", 9)
    assert lab.ended("limited").out_of_memory


@pytest.mark.skipif("cpu" in LACKING, reason=f"{LACKING}")
def test_a_container_is_held_to_its_processor_time(lab: Lab) -> None:
    lab.node.run_container(lab.spec("busy", "sh", "-c", "while :; do :; done", cpu_limit=100))
    (cgroup,) = of(lab, "busy", "cpu")
    wait_until(lambda: "nr_throttled 0\n" not in (cgroup / "cpu.stat").read_text(), "the container waits for its turn")
    lab.node.kill("busy", 9)
    lab.ended("busy")


def test_the_cgroup_of_a_container_goes_with_it(lab: Lab) -> None:
    spec = lab.spec("brief", image="pause", command=[], memory_limit=64 * MIB, cpu_limit=500)
    lab.node.run_container(spec)
    made = [*of(lab, "brief", "memory"), *of(lab, "brief", "cpu")]
    assert [path for path in made if path.exists()] == made
    assert made
    lab.node.kill("brief", 9)
    lab.ended("brief")
    lab.run("next", "true")  # what was not empty yet is removed with the next
    assert [path for path in made if path.exists()] == []


def test_a_container_that_cannot_start_leaves_no_cgroup(lab: Lab) -> None:
    with pytest.raises(Exception, match="no-such-program"):
        lab.node.run_container(lab.spec("none", "no-such-program", memory_limit=64 * MIB))
    lab.run("after", "true")
    assert of(lab, "none", "memory") == []


def test_a_lab_is_held_to_its_processes(lab: Lab) -> None:
    lab.node.run_container(lab.spec("bomb", "bash", "-c", "f() { f | f & }; f; f; sleep 1000"))
    (counted,) = [Path(each.path) for each in lab.cgroups if "pids" in each.controllers]
    # cgroup v1 counts where the process is that may not fork, v2 where the limit is.
    events = [counted / "pids.events", counted / "lab/machines/pids.events"]
    wait_until(lambda: any("max 0\n" not in each.read_text() for each in events), "the lab has all that it may have")
    assert int((counted / "pids.current").read_text()) <= 400
    lab.node.kill("bomb", 9)
    assert lab.ended("bomb").exit_code == 137
    assert lab.node.exec("other", ["echo", "goes on"], 60).output == b"goes on\n"


def test_a_command_for_which_there_is_no_process_says_so(lab: Lab) -> None:
    (counted,) = [Path(each.path) for each in lab.cgroups if "pids" in each.controllers]
    before = (counted / "pids.max").read_text()
    pidfd = lab.node.open()
    try:
        (counted / "pids.max").write_text("1")
        with pytest.raises(ExhaustedError, match="as many processes as it may have"):
            forked(lambda: run_joined(pidfd, ["true"], env={}))
    finally:
        (counted / "pids.max").write_text(before)
        os.close(pidfd)
    assert lab.on_node("echo", "again") == "again\n"


def test_the_hosts_cgroups_are_not_there(lab: Lab) -> None:
    """A container sees none, its own neither; root of a node can reach those of the lab's containers alone."""
    lab.node.run_container(lab.spec("looks", image="pause", command=[], memory_limit=64 * MIB))
    for container in ("other", "looks"):
        script = "cat /proc/1/cgroup /proc/self/cgroup; ls -A /sys/fs/cgroup; find / -name cgroup.procs 2>&-; true"
        shown = lab.node.exec(container, ["sh", "-c", script], 60).output.decode().splitlines()
        assert {line.split(":")[-1] for line in shown} <= {"/", ""}, shown
    lab.node.kill("looks", 9)
    above = "for d in /proc/1/fd/*/; do [ -e $d/cgroup.procs ] && ! [ $d/.. -ef $d ] && echo $d; done; true"
    assert lab.on_node("sh", "-c", above) == ""
    wider = "for f in /proc/1/fd/*/memory.max /proc/1/fd/*/memory.limit_in_bytes /proc/1/fd/*/pids.max; do "
    wider += "(echo max > $f || echo -1 > $f) 2>/dev/null && echo wrote $f; done; true"
    assert lab.on_node("sh", "-c", wider) == ""
