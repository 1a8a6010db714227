"""What goes wrong in the middle: part of a change is never in force, and a later sync makes it good."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import signal
import subprocess
import time

import pytest

from netlab.net.netlink import NetlinkError
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.programs import ProgramError, Programs
from netlab.proxy.config import ProxyConfig
from netlab.proxy.nftables.fixed import layout_of
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target, difference
from tests.sandbox import isolated
from tests.system.proxy.hosts import executor
from tests.unit.proxy.flows import NODE


def plan_of(services: int, endpoints: int, shift: int = 0) -> Plan:
    plan = {}
    for number in range(services):
        listed = [
            Endpoint(f"10.{128 + each}.{number // 250}.{number % 250 + 1}", 80 + shift, False)
            for each in range(endpoints)
        ]
        address = f"10.96.{number // 250}.{number % 250}"
        plan[Frontend(address, "tcp", 80)] = Target(f"d/{number}", Scope.INTERNAL, "Cluster", tuple(listed), ())
    return plan


def ports() -> set[str]:
    """The ports of all endpoints: those of one plan, or of the other."""
    listing = subprocess.run(
        ["nft", "list", "map", "ip", "kube-proxy", "endpoints"], capture_output=True, text=True, check=False
    )
    return {
        line.split(" . ")[-1].rstrip(",} ")
        for line in listing.stdout.replace(", ", ",\n").splitlines()
        if " : " in line and "typeof" not in line
    }


def converge(plan: Plan) -> list[str]:
    mine = executor("IPv4")
    mine.replace(plan)
    return mine.differences()


def flip(plans: list[Plan], in_force: int) -> None:
    mine = executor("IPv4")
    mine.replace(plans[0])
    os.write(in_force, b".")
    while True:
        mine.apply(difference(plans[0], plans[1]))
        plans.reverse()


def kill_one_that_flips(plans: list[Plan], delay: float, *, in_force: bool) -> None:
    """After so many seconds, since it began or since its first plan was in force."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        flip(plans, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        if in_force:
            assert pipe.read(1)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("delay", [0, 0.04, 0.11, 0.23])
@isolated
def test_killed_in_the_middle_of_syncs(delay: float) -> None:
    plans = [plan_of(300, 5), plan_of(300, 5, shift=1)]
    kill_one_that_flips(plans, delay, in_force=True)
    assert len(ports()) == 1, "one plan or the other"
    assert converge(plans[0]) == []


@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1])
@isolated
def test_killed_in_the_middle_of_the_first_sync(delay: float) -> None:
    plans = [plan_of(300, 5), plan_of(300, 5, shift=1)]
    kill_one_that_flips(plans, delay, in_force=False)
    listing = subprocess.run(
        ["nft", "--terse", "list", "table", "ip", "kube-proxy"], capture_output=True, text=True, check=False
    )
    assert listing.returncode or "flags dormant" in listing.stdout or len(ports()) == 1, (
        "all of the plan, wherever packets are led to it"
    )
    assert converge(plans[0]) == []


@isolated
def test_a_table_that_was_left_dormant_is_filled_and_awakened() -> None:
    """As a proxy leaves it that is ended while it fills a new table."""
    layout = layout_of("IPv4", ProxyConfig(node_name=NODE))
    subprocess.run(["nft", "-f", "-"], input=layout.script(dormant=True), text=True, check=True)

    def follow() -> list[list[str]]:
        mine = executor("IPv4")
        mine.assume({})
        before = mine.differences()
        mine.replace(plan_of(3, 2))
        return [before, mine.differences()]

    assert follow() == [["table ip kube-proxy is dormant"], []]


@isolated
def test_the_kernel_refuses_a_batch() -> None:
    """A table that was flushed meanwhile: nothing of the batch is in force, and the next sync makes all anew."""

    def refused() -> None:
        mine, old, new = executor("IPv4"), plan_of(3, 2), plan_of(4, 2)
        mine.replace(old)
        subprocess.run(["nft", "flush", "map", "ip", "kube-proxy", "picks"], check=True)
        before = ports()
        with pytest.raises(ProgramError, match="the kernel refused a batch: set ip kube-proxy"):
            mine.apply(difference(old, {}))
        assert ports() == before
        mine.replace(new)
        assert mine.differences() == []

    refused()


class Failing(Nfnetlink):
    """A socket that cannot hold the kernel's answer to a number of batches, after they were done or before."""

    left = 1
    done = False
    number = errno.ENOBUFS

    def commit(self, messages, generation=0):  # type: ignore[no-untyped-def]
        if Failing.left:
            Failing.left -= 1
            if Failing.done:
                super().commit(messages, generation)
            raise NetlinkError(Failing.number, os.strerror(Failing.number), "nftables")
        return super().commit(messages, generation)


@pytest.mark.parametrize("done", [True, False])
@isolated
def test_the_answer_to_a_batch_is_lost(done: bool) -> None:
    def lost() -> None:
        mine, old, new = executor("IPv4"), plan_of(3, 2), plan_of(3, 3)
        mine.replace(old)
        Failing.done = done
        mine._netlink = Failing()
        with pytest.raises(ProgramError, match="No buffer space available"):
            mine.apply(difference(old, new))
        mine.replace(new)
        assert mine.differences() == []

    lost()


@isolated
def test_a_difference_too_long_for_an_ordinary_users_socket() -> None:
    def long() -> None:
        mine, new = executor("IPv4"), plan_of(3, 3)
        mine.replace(plan_of(3, 2))
        Failing.number = errno.EMSGSIZE
        mine._netlink = Failing()
        mine.replace(new)
        assert mine.differences() == []

    long()


@isolated
def test_more_endpoints_than_a_message_holds() -> None:
    converge(plan_of(2, 120))
    assert converge(plan_of(60, 120)) == []


def test_a_program_that_is_stopped_ends_and_none_follows() -> None:
    """As when a proxy ends while iptables-restore takes seconds."""
    programs = Programs()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(programs.run, ["sleep", "600"])
        while programs._running is None:
            time.sleep(0.01)
        programs.stop()
        with pytest.raises(ProgramError, match="status -9"):
            running.result()
    with pytest.raises(ProgramError, match="status -9"):
        programs.run(["sleep", "600"])
