"""What the resident process does with callers that say nothing, half of something, or nonsense."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

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
