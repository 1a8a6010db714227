"""A client's connection: who may have one, how many, and how long one may keep silent in the middle of a request."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from netlab.api.meta_types import Status, StatusDetails
from netlab.api.server import identity
from netlab.api.server.access.authentication import set_caller
from netlab.api.server.identity import ANONYMOUS, OWNER
from netlab.api.server.refusals import encoded
from netlab.api.serving.upgrading import UpgradingProtocol
from netlab.net.peers import Peer, why_refused

_SILENCE = 10.0
"""Seconds in which a new connection has to begin a request."""
_PATIENCE = 30.0
"""Seconds in which a request that has begun has to be there as a whole."""
_LONGEST_HEAD = 64 * 1024
"""Bytes of a request's first line and headers."""
_MOST_OF_ONE = 512
"""Connections of one process; those from outside of the lab count as one process's."""
_OF_MACHINES = 1
"""Pid namespaces beneath this process's, which is in the lab's first machine: its nodes are the first, their containers
the next."""


def protocol(guard: str | None, shared: str | None = None) -> type[HttpToolsProtocol]:
    """The protocol of a server whose callers from outside of its pid namespace the `guard` of the lab vouches for.

    Who calls at the `shared` socket, which the lab's machines see, has to show who it is. The other one is the owner's:
    of the host, and of the lab's first machine. Without a shared one machines call there, too, and are the owner.
    """
    held: Counter[int] = Counter()
    silent: dict[Connection, int] = {}
    """Those that have not yet brought a request, the oldest first, by their callers' pids."""

    def _drop_silent(pid: int) -> bool:
        """Give up the caller's oldest connection that has not brought a request; whether there was one."""
        oldest = next((each for each, caller in silent.items() if caller == pid), None)
        if oldest is not None:
            del silent[oldest]
            oldest.transport.abort()
        return oldest is not None

    class Connection(UpgradingProtocol):
        _pid = -1
        _timer: asyncio.TimerHandle | None = None
        _head = 0
        _complete = True
        _user = ANONYMOUS
        ended: Callable[[], None] | None = None
        """Called when a connection over TLS has ended."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            refusal = self._admit()
            if refusal is not None:
                self._refuse(refusal)
                return
            self._wait(_SILENCE)

        def _admit(self) -> Status | None:
            tls = self.transport.get_extra_info("ssl_object")
            if tls is not None:
                self._user = identity.of_certificate(tls) or ANONYMOUS
                return None
            # uvloop's own object for it cannot be asked for options.
            with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as connection:
                is_shared = shared is not None and connection.getsockname() == shared
                try:
                    with Peer(connection) as peer:
                        pid = peer.pid
                    deepest = _OF_MACHINES if shared is None or is_shared else 0
                    why = why_refused(connection, deepest, guard)
                except ProcessLookupError:
                    why = "the caller has ended"
            if why:
                return Status(code=403, reason="Forbidden", message=f"forbidden: {why}")
            if held[pid] >= _MOST_OF_ONE and not _drop_silent(pid):
                message = f"too many requests: one process may have {_MOST_OF_ONE} connections"
                details = StatusDetails(retryAfterSeconds=1)
                return Status(code=429, reason="TooManyRequests", message=message, details=details)
            self._pid = pid
            self._user = ANONYMOUS if is_shared else OWNER
            held[pid] += 1
            silent[self] = pid
            return None

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            silent.pop(self, None)
            if self._pid >= 0:
                held[self._pid] -= 1
                if not held[self._pid]:
                    del held[self._pid]
                self._pid = -1
            if self.ended is not None:
                self.ended()
                self.ended = None
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._head >= 0:
                self._head += len(data)
            super().data_received(data)
            if self._head > _LONGEST_HEAD and not self.transport.is_closing():
                self._refuse(
                    Status(code=431, reason="RequestHeaderFieldsTooLarge", message="the request's headers are too long")
                )

        def on_message_begin(self) -> None:
            super().on_message_begin()
            set_caller(self.scope, self._user)
            self._complete = False
            self._wait(_PATIENCE)

        def on_headers_complete(self) -> None:
            self._head = -1
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._head = 0
            self._complete = True
            silent.pop(self, None)
            self._stop_waiting()
            super().on_message_complete()

        def _wait(self, seconds: float) -> None:
            self._stop_waiting()
            self._timer = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            if self._complete or (self.cycle is not None and not self.cycle.response_complete):
                self.transport.close()  # it has said nothing, or is still being answered
            else:
                self._refuse(Status(code=408, reason="Timeout", message="the request did not arrive in time"))

        def send_400_response(self, msg: str) -> None:
            self._refuse(Status(code=400, reason="BadRequest", message=msg))

        def _refuse(self, status: Status) -> None:
            body = encoded(status)
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status.code] + head.encode() + body)
            self.transport.close()

    return Connection
