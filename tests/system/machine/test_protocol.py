"""Whatever comes over the socket, pid 1 answers and lives."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from netlab.machine.protocol import LINE_LIMIT
from tests.system.machine.lab import Lab

_RUN = {"op": "container.run", "id": "c", "image": "x", "log": "/l"}


@contextlib.contextmanager
def connection(lab: Lab) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(lab.directory / "node-1.sock"))
        client.settimeout(30)
        yield client


def ask(client: socket.socket, line: bytes) -> Any:
    client.sendall(line)
    with client.makefile("rb") as reader:
        return json.loads(reader.readline())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100000 + b"\n", "not JSON"),
        (b'{"op": ' + b"[" * 500 + b"]" * 500 + b"}\n", "op: expected a string without NUL, not a list"),
        (b'{"op": "' + b"x" * 100000 + b'"}\n', "is unknown"),
        (b"[]\n", "expected a JSON object"),
        (b"{}\n", "op: expected a string"),
        (b'{"op": 1}\n', "op: expected a string"),
        (b'{"op": "reboot"}\n', "'reboot' is unknown"),
        *(
            (json.dumps(request).encode() + b"\n", message)
            for request, message in (
                ({"op": "sandbox.create"}, "id: expected a string"),
                ({"op": "sandbox.create", "id": "../../etc"}, "is not a name"),
                ({"op": "sandbox.create", "id": "a\0b"}, "without NUL"),
                ({"op": "container.kill", "id": "c", "signal": "TERM"}, "no such container"),
                ({"op": "container.exec", "id": "c", "command": ["x"], "timeout": 1}, "no such container"),
                ({"op": "service.run", "name": "s", "argv": [], "log": "/l"}, "argv: expected a"),
                ({"op": "service.run", "name": "s", "argv": "sh", "log": "/l"}, "argv: expected a list"),
                ({**_RUN, "log": "relative"}, "not an absolute path"),
                ({**_RUN, "env": {"A=B": "c"}}, "is not a valid variable name"),
                ({**_RUN, "env": {"A": 1}}, "env[A]: expected a string"),
                ({**_RUN, "command": ["a", None]}, "command[1]: expected a string"),
                ({**_RUN, "colour": "blue"}, "colour: no such field"),
                ({"op": "open", "id": "nobody"}, "no such container"),
            )
        ),
    ],
)
def test_bad_requests_are_answered(shared_lab: Lab, line: bytes, message: str) -> None:
    with connection(shared_lab) as client:
        reply = ask(client, line)
        assert message in reply["error"]
        assert "\n" not in reply["error"]
        assert len(reply["error"]) < 400
        assert ask(client, b'{"op": "state"}\n')["ok"]["name"] == "node-1"


def test_a_request_without_end_is_given_up(shared_lab: Lab) -> None:
    with connection(shared_lab) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(b"x" * (LINE_LIMIT + 100_000))
        assert json.loads(client.recv(65536))["errno"] == errno.EMSGSIZE
        assert client.recv(1) == b""
    assert shared_lab.node.state().name == "node-1"


def test_requests_may_come_in_pieces_and_in_crowds(shared_lab: Lab) -> None:
    with connection(shared_lab) as client:
        for byte in b'{"op": "state"}':
            client.sendall(bytes([byte]))
        assert "ok" in ask(client, b"\n")
        client.sendall(b'{"op": "state"}\n' * 50)
        with client.makefile("rb") as reader:
            assert ["ok" in json.loads(reader.readline()) for _ in range(50)] == [True] * 50


def test_a_slow_client_blocks_nobody(lab: Lab) -> None:
    with connection(lab) as half, connection(lab) as deaf, connection(lab) as watcher, connection(lab) as gone:
        half.sendall(b'{"op": "st')
        watcher.sendall(b'{"op": "events"}\n')
        lab.run("c", "true")
        deaf.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):  # until neither side's buffer takes more
                deaf.sendall(b'{"op": "state"}\n' * 100)
        gone.sendall(b'{"op": "container.exec", "id": "c", "command": ["sleep", "9"], "timeout": 9}\n')
        gone.close()
        assert lab.run("d", "true").exit_code == 0
        assert "ok" in ask(half, b'ate"}\n')
        with watcher.makefile("rb") as reader:
            assert [json.loads(reader.readline())["ok"]["id"] for _ in range(2)] == ["c", "d"]


def test_silent_callers_hold_nobody_back(shared_lab: Lab) -> None:
    """More than one process may have: the oldest that have said nothing, or half of something, have to go."""
    with contextlib.ExitStack() as stack, more_descriptors():
        silent = [stack.enter_context(connection(shared_lab)) for _ in range(1100)]
        for client in silent[::2]:
            with contextlib.suppress(OSError):
                client.send(b'{"op"')
        with connection(shared_lab) as client:
            assert ask(client, b'{"op": "state"}\n')["ok"]["name"] == "node-1"
        assert silent[0].recv(1) == b""


@contextlib.contextmanager
def more_descriptors() -> Iterator[None]:
    """As many as this process may have at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
