"""Whatever is sent to a lab's guard: it keeps nothing, goes on, and vouches for those alone whom it trusts."""

from __future__ import annotations

import array
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.net.peers import GUARD, Guard


@pytest.fixture(scope="module")
def guard() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
        path = f"{directory}/{GUARD}"
        Guard(path).start(os.getpid())
        before = descriptors()
        yield path
        for _ in range(3000):
            if descriptors() <= before:
                return
            time.sleep(0.01)
        raise AssertionError(f"the guard keeps {descriptors() - before} descriptors")


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def open_one(kind: str, stack: ExitStack) -> int:
    """A descriptor of some kind."""
    if kind == "pipe":
        made = os.pipe()
        stack.callback(os.close, made[0])
        stack.callback(os.close, made[1])
        return made[0]
    if kind in ("stream", "datagram"):
        pair = socket.socketpair(type=socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        for each in pair:
            stack.enter_context(each)
        return pair[0].fileno()
    if kind in ("tcp", "listening"):
        server = stack.enter_context(socket.socket())
        if kind == "listening":
            server.bind(("127.0.0.1", 0))
            server.listen()
        return server.fileno()
    if kind == "closed":
        ours, theirs = socket.socketpair()
        theirs.close()
        return stack.enter_context(ours).fileno()
    descriptor = os.pidfd_open(os.getpid()) if kind == "pidfd" else os.open(kind, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


KINDS = ["pipe", "stream", "datagram", "tcp", "listening", "closed", "pidfd", "/", "/dev/null", "/proc/self/status"]


@given(text=st.binary(max_size=70), kinds=st.lists(st.sampled_from(KINDS), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_has_no_effect(guard: str, text: bytes, kinds: list[str]) -> None:
    with ExitStack() as stack:
        ask(guard, text, [open_one(kind, stack) for kind in kinds])
        # It goes on, and vouches for this process.
        near, _, ours, theirs = (
            stack.enter_context(each)
            for pair in (socket.socketpair(), socket.socketpair(type=socket.SOCK_DGRAM))
            for each in pair
        )
        ask(guard, b"?", [near.fileno(), theirs.fileno()])
        ours.settimeout(30)
        assert ours.recv(1) == b"\1"


def ask(guard: str, text: bytes, descriptors: list[int]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.connect(guard)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        asking.sendmsg([text], rights if descriptors else [])
