"""pid 1's socket: many clients, one request at a time for each, and no client can delay another."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from netlab.machine import loop
from netlab.machine.protocol import LINE_LIMIT, STREAMS, InvalidRequestError, Request
from netlab.net.peers import Peer, bound

_PATIENCE = 10.0
"""Seconds for a new connection to send its first request, and for a request that has begun to be complete."""
_MOST_BUFFERED = 64 * 1024 * 1024  # bytes of incomplete requests, of all callers together
_MOST_OF_ONE = 1024
"""Connections of one process: a kubelet has one for each container that it is starting."""
_BACKLOG_LIMIT = 8 * 1024 * 1024  # bytes that a client has not read, after which it is disconnected


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that cannot be carried out; the client gets the message and an errno."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno = number


class Connection:
    """A client's connection; one request at a time is in progress."""

    def __init__(self, peer: socket.socket, pid: int) -> None:
        self.peer = peer
        self.pid = pid
        self.timer: loop.Timer | None = None
        self.received = bytearray()
        self.descriptors: list[int] = []
        """What came with the requests that are not yet handled."""
        self.unsent = bytearray()
        self.busy = False
        self.streaming = False
        self.closed = False


class Reply:
    """The only answer to a request; it may be given after the request's handler returns."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._given = False

    def ok(self, value: Any = None, descriptors: Sequence[int] = ()) -> None:
        """Report success; `descriptors` are passed along."""
        self._give({"ok": value}, descriptors)

    def fail(self, number: int, message: str) -> None:
        """Report failure."""
        self._give({"error": message, "errno": number}, ())

    def stream(self) -> Connection:
        """Give no answer; from now on the connection carries what `Server.send` sends."""
        self._given = True
        self._connection.streaming = True
        self._connection.busy = False
        return self._connection

    def _give(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        # Only the first answer counts: when a handler fails half-way, the work that it began may answer too.
        if not self._given:
            self._given = True
            self._server.answer(self._connection, message, descriptors)


class Server:
    """A listening socket; `handle` is called with every request and must have it answered.

    If it raises `Refusal`, `InvalidRequestError` or `OSError`, that is the answer.
    """

    def __init__(
        self,
        events: loop.Loop,
        path: str,
        why_refused: Callable[[socket.socket], str],
        handle: Callable[[Request, Reply], None],
    ) -> None:
        """`why_refused` says why a caller is not to be served, as part of a sentence; "" if it is."""
        self._loop = events
        self._why_refused = why_refused
        self._handle_request = handle
        self._held: dict[int, int] = {}
        self._silent: dict[Connection, None] = {}
        """The connections without a request so far, oldest first."""
        self._buffered = 0
        self._listener = bound(path, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.listen(1024)
        self._loop.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        peer.setblocking(False)
        try:
            pid = self._admit(peer)
        except Refusal as refusal:
            with peer, contextlib.suppress(OSError):
                peer.send(_line({"error": str(refusal), "errno": refusal.errno}))
            return
        self._held[pid] = self._held.get(pid, 0) + 1
        connection = Connection(peer, pid)
        self._silent[connection] = None
        self._expect(connection)
        self._watch(connection)

    def _admit(self, peer: socket.socket) -> int:
        """The pid of a caller that may connect; 0 for one from outside. Raises `Refusal`."""
        if why := self._why_refused(peer):
            raise Refusal(errno.EPERM, f"refused: {why}")
        try:
            with Peer(peer) as caller:
                pid: int = caller.pid
        except ProcessLookupError:
            raise Refusal(errno.EPERM, "refused: the caller has ended") from None
        if self._held.get(pid, 0) >= _MOST_OF_ONE and not self._drop_silent(pid):
            raise Refusal(errno.EMFILE, f"refused: one process may have {_MOST_OF_ONE} connections")
        return pid

    def _drop_silent(self, pid: int) -> bool:
        """Close the caller's oldest connection without a request so far. Returns whether there was one."""
        silent = next((each for each in self._silent if each.pid == pid), None)
        if silent is not None:
            self._close(silent)
        return silent is not None

    def _expect(self, connection: Connection) -> None:
        """Close a connection if it does not send a complete request in time."""
        if connection.timer is None:
            connection.timer = self._loop.after(_PATIENCE, lambda: self._expired(connection))

    def _expired(self, connection: Connection) -> None:
        if connection.received:
            self.answer(connection, {"error": "request: it did not arrive in time", "errno": errno.ETIMEDOUT})
        self._close(connection)

    def _attend(self, connection: Connection) -> None:
        """Read or write, as the socket is ready; then handle the next request if it is complete."""
        if connection.unsent:
            self._flush(connection)
        if not connection.unsent and not connection.busy and not connection.closed:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            chunk, descriptors, _, _ = socket.recv_fds(connection.peer, 65536, len(STREAMS), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            chunk, descriptors = b"", []
        connection.descriptors += descriptors
        if not chunk or connection.streaming or len(connection.descriptors) > len(STREAMS):
            self._close(connection)
            return
        connection.received += chunk
        self._buffered += len(chunk)
        if self._buffered > _MOST_BUFFERED:
            self.answer(connection, {"error": "request: too much is under way at once", "errno": errno.ENOBUFS})
            self._close(connection)
            return
        self._work(connection)

    def _work(self, connection: Connection) -> None:
        while not connection.busy and not connection.unsent and not connection.closed and not connection.streaming:
            end = connection.received.find(b"\n")
            if end < 0:
                if len(connection.received) > LINE_LIMIT:
                    self.answer(connection, {"error": "request: too long", "errno": errno.EMSGSIZE})
                    self._close(connection)
                elif connection.received:
                    self._expect(connection)
                return
            if connection.timer is not None:
                connection.timer.cancel()
                connection.timer = None
            self._silent.pop(connection, None)
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            self._buffered -= end + 1
            connection.busy = True
            descriptors, connection.descriptors = connection.descriptors, []
            try:
                self._handle(line, descriptors, Reply(self, connection))
            finally:
                _close_all(descriptors)
        self._watch(connection)

    def _handle(self, line: bytes, descriptors: Sequence[int], reply: Reply) -> None:
        try:
            try:
                request = Request(json.loads(line), descriptors)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(f"request: not JSON: {error}") from error
            self._handle_request(request, reply)
        except Refusal as refusal:
            reply.fail(refusal.errno, str(refusal))
        except InvalidRequestError as error:
            reply.fail(errno.EINVAL, str(error))
        except OSError as error:
            reply.fail(error.errno or 0, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except Exception as error:
            traceback.print_exc()
            reply.fail(0, f"internal error of the machine: {error!r}")

    def answer(self, connection: Connection, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a reply, and go on to the connection's next request."""
        connection.busy = False
        self.send(connection, message, descriptors)
        if connection.received:
            # Not directly: the handler of this same connection may be the caller.
            self._loop.after(0, lambda: self._work(connection))

    def send(self, connection: Connection, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a line; a client that does not read is disconnected in the end."""
        if connection.closed:
            return
        line = _line(message)
        if descriptors:
            try:
                # Nothing is unsent at this point: a connection has one request at a time.
                sent = socket.send_fds(connection.peer, [line], descriptors)
            except OSError:
                self._close(connection)
                return
            line = line[sent:]
        connection.unsent += line
        if len(connection.unsent) > _BACKLOG_LIMIT:
            self._close(connection)
            return
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.unsent:
                sent = connection.peer.send(connection.unsent)
                del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Wait for what the connection can do next."""
        if connection.closed:
            return
        if connection.unsent:
            self._loop.watch(connection.peer.fileno(), lambda: self._attend(connection), loop.WRITE)
        elif connection.busy:
            # The poll is level-triggered: a pipelined request, or a hangup, would wake the loop repeatedly.
            self._loop.unwatch(connection.peer.fileno())
        else:
            self._loop.watch(connection.peer.fileno(), lambda: self._attend(connection))

    def _close(self, connection: Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        self._silent.pop(connection, None)
        self._buffered -= len(connection.received)
        _close_all(connection.descriptors)
        if connection.timer is not None:
            connection.timer.cancel()
        self._held[connection.pid] -= 1
        if not self._held[connection.pid]:
            del self._held[connection.pid]
        self._loop.unwatch(connection.peer.fileno())
        connection.peer.close()


def _close_all(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        os.close(each)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
