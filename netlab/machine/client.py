"""The blocking client of a machine, used by the command line and the lab. Errors: see `netlab.machine.replies`."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from netlab.descriptors import Closing
from netlab.machine import protocol
from netlab.machine.protocol import ExecResult, MachineState
from netlab.machine.replies import MachineError, decode, encode, exec_result, raise_unavailable

_REPLY_TIMEOUT = 30.0  # a machine answers in milliseconds, unless the host is out of memory or stopped


class Machine(Closing):
    """A blocking connection to one machine. Use it as a context manager.

    Only one thread may use it.
    """

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        self._path = Path(socket_path)
        self._socket: socket.socket | None = None
        self._received = b""

    def __enter__(self) -> Self:
        self._connect()
        return self

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._received = b""

    def spawn_machine(
        self,
        name: str,
        socket_path: str | os.PathLike[str],
        hostname: str,
        visible: Sequence[str | os.PathLike[str]] | None = None,
    ) -> int:
        """Start a child machine, which serves `socket_path` by the return. Its pid in this machine's pid namespace.

        Of the lab's directory it sees what is `visible` alone, files and folders that are there; with None all of it.
        """
        arguments: dict[str, Any] = {"name": name, "socket": str(socket_path), "hostname": hostname}
        if visible is not None:
            arguments["visible"] = [str(path) for path in visible]
        pid: int = self._call(protocol.MACHINE_SPAWN, arguments)["pid"]
        return pid

    def run_service(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> int:
        """Start a supervised process: it is restarted, with a growing delay, whenever it ends. Returns its pid.

        `env` is the whole environment (PATH and HOME are added when absent). Output is appended to `log`. A program
        that cannot be executed is an error at once, and is not supervised.
        """
        arguments = {"name": name, "argv": list(argv), "env": dict(env or {}), "log": str(log)}
        if cwd is not None:
            arguments["cwd"] = str(cwd)
        pid: int = self._call(protocol.SERVICE_RUN, arguments)["pid"]
        return pid

    def services(self) -> list[protocol.ServiceStatus]:
        """The supervised processes."""
        return self.state().services

    def state(self) -> MachineState:
        """Everything the machine runs."""
        return MachineState.from_json(self._call(protocol.STATE))

    def exec(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Run a command in a container and wait for it; after `timeout` seconds it is killed."""
        arguments = {"id": container_id, "command": list(command), "timeout": timeout}
        return exec_result(self._call(protocol.CONTAINER_EXEC, arguments, timeout=timeout + _REPLY_TIMEOUT))

    def surroundings(self, container_id: str) -> protocol.Surroundings:
        """What a container's commands start with."""
        return protocol.Surroundings(**self._call(protocol.CONTAINER_ENVIRONMENT, {"id": container_id}))

    def open(self, container_id: str | None = None) -> int:
        """A pidfd of a container's pid 1, or of the machine's. The caller closes it."""
        request = encode(protocol.OPEN, {"id": container_id})
        connection = self._connect()
        try:
            connection.settimeout(_REPLY_TIMEOUT)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(request)
            line, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
            if not descriptors:
                line += self._read_line(connection) if line and not line.endswith(b"\n") else b""
        except OSError as error:
            self.close()
            raise_unavailable(self._path, error)
        if not line:
            self.close()
            raise_unavailable(self._path, None)
        if descriptors:
            os.set_inheritable(descriptors[0], False)
            return descriptors[0]
        decode(line)
        raise MachineError(f"machine {self._path}: the reply to open brought no file descriptor", errno.EBADMSG)

    def _connect(self) -> socket.socket:
        if self._socket is not None and _hung_up(self._socket):
            self.close()  # a machine closes silent connections
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._path))
            except OSError as error:
                connection.close()
                raise_unavailable(self._path, error)
            self._socket = connection
        return self._socket

    def _call(self, op: str, arguments: Mapping[str, Any] | None = None, timeout: float = _REPLY_TIMEOUT) -> Any:
        request = encode(op, arguments or {})
        connection = self._connect()
        try:
            connection.settimeout(timeout)
            with contextlib.suppress(BrokenPipeError):  # a machine refuses a caller before it reads a request
                connection.sendall(request)
            line = self._read_line(connection)
        except BaseException as error:
            # After any interruption, such as a signal, the reply may still come and be taken for that of the next call.
            self.close()
            if isinstance(error, OSError):
                raise_unavailable(self._path, error)
            raise
        if not line.endswith(b"\n"):
            self.close()
            raise_unavailable(self._path, None)
        return decode(line)

    def _read_line(self, connection: socket.socket) -> bytes:
        chunks = [self._received]
        while b"\n" not in chunks[-1]:
            chunk = connection.recv(65536)
            if not chunk:
                break
            chunks.append(chunk)
        line, newline, self._received = b"".join(chunks).partition(b"\n")
        return line + newline


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
