"""Connections over TLS: from the host by way of the relay, and from the lab's own network."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable

BACKLOG = 1024

_HANDSHAKE = 10.0
"""Seconds in which a client has to have finished TLS's handshake."""
_MOST_OF_ONE = 512
"""Connections of one address; those that the relay carries count as one address's."""


def load_identity(context: ssl.SSLContext, identity: bytes) -> None:
    """Have TLS present a certificate, which `identity` holds with its key, in PEM form."""
    # OpenSSL reads files; one in memory leaves the key on no disk.
    memory = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(identity)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


class SecureListener:
    """Accepts connections at a socket and speaks TLS on them."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[Callable[[], None]], asyncio.Protocol],
    ) -> None:
        """`protocol` makes what speaks on a connection, and calls its argument when the connection has ended."""
        listener.setblocking(False)
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._held: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, address = await loop.sock_accept(self._listener)
                except OSError:
                    await asyncio.sleep(1.0)  # there is no descriptor for it
                    continue
                place = address[0] if address else ""
                if self._held[place] >= _MOST_OF_ONE:
                    connection.close()
                    continue
                self._held[place] += 1
                task = loop.create_task(self._greet(connection, place))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _greet(self, connection: socket.socket, place: str) -> None:
        def made() -> asyncio.Protocol:
            return self._protocol(lambda: self._give_back(place))

        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(made, connection, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE)
        except OSError:  # TLS's own errors and ConnectionAbortedError among them: nothing has been made
            connection.close()
            self._give_back(place)

    def _give_back(self, place: str) -> None:
        self._held[place] -= 1
        if not self._held[place]:
            del self._held[place]
