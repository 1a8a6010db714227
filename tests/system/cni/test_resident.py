"""What the resident process does with callers that say nothing, half of something, or nonsense."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.cni.plugins.call import DECLINED, PROTOCOL, SOCKET
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.cni import pods

_LONG = 30.0
"""Seconds; longer than any answer takes, on any machine."""


def connect() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_LONG)
    connection.connect(SOCKET)
    return connection


def request(command: bytes = b"VERSION", protocol: bytes = PROTOCOL) -> bytes:
    mounts = str(Path("/proc/self/ns/mnt").readlink()).encode()
    return b"\0".join([protocol, mounts, b"netlab", b"CNI_COMMAND=" + command]) + b"\0\0"


@contextlib.contextmanager
def streams() -> Iterator[tuple[list[int], int]]:
    """Descriptors for a call with nothing on its standard input, and where its output arrives."""
    output_read, output_write = os.pipe()
    given = [os.open("/dev/null", os.O_RDWR), output_write, 2, os.open("/proc/self/ns/net", os.O_RDONLY)]
    yield given, output_read
    for descriptor in (given[0], given[3], output_read, output_write):
        os.close(descriptor)


def answered() -> None:
    """A call is answered."""
    with streams() as (given, output), connect() as connection:
        socket.send_fds(connection, [request()], given)
        assert connection.recv(1) == b"\0"
        assert b"supportedVersions" in os.read(output, 4096)


@isolated
def test_silent_callers_hold_nobody_back() -> None:
    pods.start_resident()
    silent = [connect() for _ in range(40)]
    for connection in silent[::2]:
        connection.send(PROTOCOL)
    answered()
    # Nor do calls whose standard input never ends, or whose output is never read.
    empty, never_closed = os.pipe()
    full_read, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, bytes(4096))
    with streams() as (given, _):
        for stdin, stdout in ((empty, given[1]), (given[0], full)):
            silent += [connect() for _ in range(14)]
            for connection in silent[-14:]:
                socket.send_fds(connection, [request()], [stdin, stdout, *given[2:]])
    answered()
    os.close(never_closed)
    os.close(full_read)


@isolated
@pytest.mark.parametrize(
    "sent", [b"\0\0", b"x\0\0", b"\xff" * 5000 + b"\0\0", request(protocol=b"netlab-cni-0"), request(), b"\0" * 100]
)
def test_nonsense_is_declined(sent: bytes) -> None:
    pods.start_resident()
    with connect() as connection:  # without descriptors
        connection.sendall(sent)
        assert connection.recv(16) == DECLINED
    answered()


@isolated
def test_a_caller_in_a_container_is_declined() -> None:
    pods.start_resident()
    read_end, write_end = os.pipe()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    if os.fork() == 0:
        with streams() as (given, _), connect() as connection:
            with contextlib.suppress(OSError):
                socket.send_fds(connection, [request()], given)
            os.write(write_end, connection.recv(1))
        os._exit(0)
    assert os.read(read_end, 1) == DECLINED


@isolated
def test_whatever_is_sent_is_answered_or_declined(tmp_path: Path) -> None:
    said = tmp_path / "said"
    pods.start_resident(said)
    whole = request()
    messages = st.builds(
        lambda place, odd, cut: (whole[:place] + odd + whole[place + len(odd) :])[:cut],
        st.integers(0, len(whole)),
        st.binary(max_size=6) | st.sampled_from([b"\0", b"\0\0", b"=", b"\xff" * 70_000]),
        st.integers(0, len(whole)) | st.none(),
    ) | st.binary(max_size=200)
    kinds = st.sampled_from(
        ["null", "zero", "folder", "closed pipe", "full pipe", "output", "socket", "network", "user"]
    )

    @settings(max_examples=200, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages, min_size=1, max_size=2), st.lists(kinds, max_size=6) | st.just(["null", "output"] * 2))
    def run(sent: list[bytes], passed: list[str]) -> None:
        with contextlib.ExitStack() as stack, connect() as connection:
            given_ = [_opened(kind, stack) for kind in passed]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if sent[0] and given_:
                    socket.send_fds(connection, sent[:1], given_)
                for each in sent[0 if not given_ else 1 :]:
                    connection.sendall(each)
                connection.shutdown(socket.SHUT_WR)
            answered()
            # One whose standard input does not end is answered after some seconds: nobody waits for that here.
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                assert connection.recv(16, socket.MSG_DONTWAIT) in {DECLINED, b"", b"\0", b"\1"}

    run()
    assert "Traceback" not in said.read_text()


def _opened(kind: str, stack: contextlib.ExitStack) -> int:
    """A descriptor of some kind, which `stack` closes."""
    match kind:
        case "closed pipe" | "full pipe" | "output":
            read_end, write_end = os.pipe()
            stack.callback(os.close, read_end)
            stack.callback(os.close, write_end)
            if kind == "full pipe":
                os.write(write_end, bytes(4096))
            return read_end if kind == "full pipe" else write_end
        case "socket":
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            return one.fileno()
    path = {"null": "/dev/null", "zero": "/dev/zero", "folder": "/", "network": "/proc/self/ns/net"}
    descriptor = os.open(path.get(kind, "/proc/self/ns/user"), os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


@isolated
def test_two_calls_with_one_standard_input_hold_nobody_back() -> None:
    pods.start_resident()
    read_end, write_end = os.pipe()
    with streams() as (given_, _), connect() as one, connect() as other:
        for connection in (one, other):
            socket.send_fds(connection, [request()], [read_end, *given_[1:]])
        answered()  # so both wait for their input by now
        os.write(write_end, b"{")
        answered()
        os.close(write_end)
        assert {one.recv(1), other.recv(1)} <= {b"\0", b"\1"}
