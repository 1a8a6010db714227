"""Commands with streams, terminals, and attaching to a container."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import termios
from collections.abc import Awaitable, Callable

import pytest

from netlab.machine.async_client import AsyncMachine
from netlab.machine.replies import MachineError
from tests.system.machine.lab import Lab, wait_until

SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def slept(shared_lab: Lab) -> Lab:
    shared_lab.node.run_container(shared_lab.spec("sleeper", *SLEEP))
    return shared_lab


def talk(lab: Lab, work: Callable[[AsyncMachine], Awaitable[None]]) -> None:
    async def talking() -> None:
        async with AsyncMachine(lab.directory / "node-1.sock") as machine:
            await work(machine)

    asyncio.run(talking())


async def output(descriptor: int) -> bytes:
    def read() -> bytes:
        said = b""
        # EIO: nobody has the terminal open any more.
        with os.fdopen(descriptor, "rb", buffering=0) as file, contextlib.suppress(OSError):
            while chunk := file.read(4096):
                said += chunk
        return said

    return await asyncio.to_thread(read)


def test_a_command_has_the_streams_that_it_is_given(slept: Lab) -> None:
    async def work(machine: AsyncMachine) -> None:
        pipes = {name: os.pipe() for name in ("stdin", "stdout", "stderr")}
        given = {name: ends[0 if name == "stdin" else 1] for name, ends in pipes.items()}
        os.write(pipes["stdin"][1], b"in\n")
        os.close(pipes["stdin"][1])
        script = "cat; echo err >&2; ls /proc/self/fd | wc -l >&2; exit 7"
        code, out, err = await asyncio.gather(
            machine.stream("sleeper", ["sh", "-c", script], given),
            output(pipes["stdout"][0]),
            output(pipes["stderr"][0]),
        )
        assert (code, out, err) == (7, b"in\n", b"err\n4\n")

    talk(slept, work)


def test_streams_that_are_missing_are_empty(slept: Lab) -> None:
    async def work(machine: AsyncMachine) -> None:
        assert await machine.stream("sleeper", ["sh", "-c", "read x && exit 9; echo lost; exit 4"], {}) == 4

    talk(slept, work)


def test_a_command_on_a_terminal_of_its_own(slept: Lab) -> None:
    async def work(machine: AsyncMachine) -> None:
        opened: list[int] = []
        script = 'tty; echo "$TERM"; ps -o tty= $$; until [ "$(stty size)" = "10 20" ]; do sleep 0.02; done; exit 3'
        running = asyncio.create_task(machine.stream_terminal("sleeper", ["sh", "-c", script], opened.append))
        while not opened:
            await asyncio.sleep(0.01)
        termios.tcsetwinsize(opened[0], (10, 20))
        said, code = await asyncio.gather(output(opened[0]), running)
        assert code == 3
        assert said.split() == [b"/dev/pts/0", b"xterm", b"pts/0"]

    talk(slept, work)


@pytest.mark.parametrize(
    ("container", "command", "number"), [("sleeper", "nope", errno.ENOENT), ("none", "true", errno.ENOENT)]
)
def test_what_cannot_run_says_why(slept: Lab, container: str, command: str, number: int) -> None:
    async def work(machine: AsyncMachine) -> None:
        opened: list[int] = []
        for call in (
            machine.stream(container, [command], {}),
            machine.stream_terminal(container, [command], opened.append),
        ):
            with pytest.raises(MachineError) as caught:
                await call
            assert caught.value.errno == number
        for each in opened:
            os.close(each)

    talk(slept, work)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_attaching(lab: Lab, terminal: bool) -> None:
    script = 'while read line; do echo "<$line>"; done; echo over'
    lab.node.run_container(lab.spec("c", "sh", "-c", script, stdin=True, stdin_once=True, terminal=terminal))

    async def work(machine: AsyncMachine) -> None:
        stdin, stdout = await machine.attach("c", ["stdin", "stdout"])
        reader = output(stdout)
        os.write(stdin, b"one\n")
        if terminal:
            os.write(stdin, b"\x04")  # end of input
        os.close(stdin)
        said = (await reader).replace(b"\r\n", b"\n").replace(b"^D\b\b", b"")
        assert said.removeprefix(b"one\n" if terminal else b"") == b"<one>\nover\n"

    talk(lab, work)
    lab.ended("c")
    assert lab.printed("c").replace("\r\n", "\n").endswith("<one>\nover\n")


def test_who_does_not_read_loses_nothing(lab: Lab) -> None:
    """The container waits, as it would with a terminal; whoever asks the machine something else does not."""
    size = 3_000_000
    lab.node.run_container(lab.spec("c", "sh", "-c", f"read x; head -c {size} /dev/zero", stdin=True, stdin_once=True))

    async def work(machine: AsyncMachine) -> None:
        stdin, stdout = await machine.attach("c", ["stdin", "stdout"])
        os.write(stdin, b"go\n")
        assert (await machine.exec("c", ["echo", "beside"], 60)).output == b"beside\n"
        assert len(await output(stdout)) == size
        os.close(stdin)

    talk(lab, work)
    lab.ended("c")
    assert len(lab.printed("c")) == size + 1  # a newline at its end


def test_who_goes_holds_nothing_up(lab: Lab) -> None:
    lab.node.run_container(lab.spec("c", "sh", "-c", "read x; head -c 3000000 /dev/zero; echo over", stdin=True))

    async def work(machine: AsyncMachine) -> None:
        stdin, stdout = await machine.attach("c", ["stdin", "stdout"])
        os.close(stdout)
        os.write(stdin, b"go\n")
        os.close(stdin)

    talk(lab, work)
    assert lab.ended("c").exit_code == 0
    assert lab.printed("c").endswith("over\n")


def test_output_without_an_end_of_line_is_kept(lab: Lab) -> None:
    assert lab.run("c", "printf", "no end").exit_code == 0
    wait_until(lambda: lab.printed("c") == "no end\n", "the log has it")
