"""Commands in the namespaces of another process."""

import os
import signal
from pathlib import Path

import pytest

from netlab.machine.join import ALL_BUT_USER
from netlab.net import syscalls
from netlab.scenario.commands import Namespaces, run
from tests.sandbox import isolated
from tests.system.scenario.elsewhere import elsewhere

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@isolated
@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["echo", "a", "b"], 0, "a b"),
        (["sh", "-c", "echo out; echo err >&2; exit 3"], 3, "out\nerr"),
        (["cat"], 0, ""),  # there is nothing to read
        (["nosuch"], 127, "nosuch: No such file or directory"),
        (["/"], 126, "/: Permission denied"),
        (["sh", "-c", "kill -9 $$"], 128 + 9, ""),
        (["id", "-u"], 0, "0"),
        (["sh", "-c", "echo $HOME$PATH"], 0, ENV["PATH"]),
    ],
)
def test_what_it_printed_and_how_it_ended(argv: list[str], status: int, text: str) -> None:
    with elsewhere(syscalls.CLONE_NEWNET, "ip link add there type bridge") as pidfd:
        assert run([Namespaces(pidfd, syscalls.CLONE_NEWNET)], argv, ENV, 10) == (status, text)


@isolated
def test_it_is_where_the_last_of_the_namespaces_is() -> None:
    outer, inner = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS, syscalls.CLONE_NEWNET
    with (
        elsewhere(outer, "ip link add machine type bridge") as machine,
        elsewhere(inner, "ip link add pod type bridge") as pod,
    ):
        into_machine, into_pod = Namespaces(machine, outer), Namespaces(pod, inner)
        assert "machine" in run([into_machine], ["ip", "link"], ENV, 10).text
        links = run([into_machine, into_pod], ["ip", "link"], ENV, 10).text
        assert "pod" in links
        assert "machine" not in links
        run([into_machine, into_pod], ["ip", "link", "del", "pod"], ENV, 10)
        assert "machine" in run([into_machine], ["ip", "link"], ENV, 10).text
        assert "pod" not in run([into_pod], ["ip", "link"], ENV, 10).text


@isolated
def test_one_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        elsewhere(syscalls.CLONE_NEWNET, "ip link add there type bridge") as pidfd,
        fifo.open("r+b", buffering=0) as both,
    ):
        argv = ["sh", "-c", f"exec 3>{fifo}; sleep 3600 & sleep 3600"]
        assert run([Namespaces(pidfd, syscalls.CLONE_NEWNET)], argv, ENV, 0.3) == (None, "")
        reader = os.open(fifo, os.O_RDONLY)
        both.close()
        assert os.read(reader, 1) == b""  # once nobody has it open for writing


@isolated
def test_where_nobody_is_any_more_nothing_is_run() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    os.waitpid(child, 0)
    status, text = run([Namespaces(pidfd, ALL_BUT_USER)], ["echo", "here"], ENV, 10)
    assert status == 125
    assert "ended in the meantime" in text


@isolated
def test_the_terminals_interrupt_does_not_break_it_off() -> None:
    # The command interrupts the process group of whoever started it, as a terminal would.
    os.setpgid(0, 0)
    group = os.getpgid(0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with elsewhere(syscalls.CLONE_NEWNET, "ip link add there type bridge") as pidfd:
            argv = ["sh", "-c", f"kill -INT -{group}; sleep 0.1; echo done"]
            assert run([Namespaces(pidfd, syscalls.CLONE_NEWNET)], argv, ENV, 10) == (0, "done")
    finally:
        signal.signal(signal.SIGINT, before)
