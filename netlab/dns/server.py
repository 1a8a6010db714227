"""The sockets at which questions come, by UDP and TCP; who answers them can be replaced while they stay open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable
from typing import Any

from netlab.dns.instance import Instance
from netlab.dns.metrics import Metrics, Transport
from netlab.machine.images.http import format_address
from netlab.machine.images.netexec import listen

_LARGEST = 65535
_AT_ONCE = 64
"""Datagrams that are read before others have their turn."""

_RECEIVE_BUFFER = 1 << 20
"""Bytes that may wait to be read, as far as the kernel allows it: a burst of a thousand questions."""

_IDLE = 10.0
"""Seconds of silence after which a TCP connection is closed (RFC 7766, section 6.2.3)."""

_MOST_CONNECTIONS = 256


class Server:
    """The open ports, and the instance that answers at them."""

    def __init__(self, instance: Instance, metrics: Metrics) -> None:
        self.instance = instance
        self._metrics = metrics
        self._open: dict[int, tuple[socket.socket, asyncio.Server]] = {}
        self._connections = 0
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self, instance: Instance) -> None:
        """Have an instance answer, at its ports and no others. Raises `OSError`, and changes nothing then."""
        wanted = {block.port for block in instance.corefile.blocks}
        async with contextlib.AsyncExitStack() as opened:
            new = {port: await self._listen(port, opened) for port in wanted - self._open.keys()}
            opened.pop_all()
        self.instance = instance
        for port in self._open.keys() - wanted:
            self._close(port)
        self._open |= new

    def close(self) -> None:
        """Close every port."""
        for port in list(self._open):
            self._close(port)

    async def _listen(self, port: int, opened: contextlib.AsyncExitStack) -> tuple[socket.socket, asyncio.Server]:
        loop = asyncio.get_running_loop()
        datagrams = opened.enter_context(listen(socket.SOCK_DGRAM, port))
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(port, reader, writer)

        server = await asyncio.start_server(serve, sock=listen(socket.SOCK_STREAM, port))
        opened.callback(server.close)
        loop.add_reader(datagrams.fileno(), self._read, port, datagrams)
        opened.callback(loop.remove_reader, datagrams.fileno())
        return datagrams, server

    def _close(self, port: int) -> None:
        datagrams, server = self._open.pop(port)
        asyncio.get_running_loop().remove_reader(datagrams.fileno())
        datagrams.close()
        server.close()

    def _read(self, port: int, datagrams: socket.socket) -> None:
        kept = self.instance.kept[port]
        for _ in range(_AT_ONCE):
            try:
                wire, client = datagrams.recvfrom(_LARGEST)
            except OSError:
                return  # nothing more, or an ICMP error about an earlier answer
            transport: Transport = ("udp", _family(client))
            if (found := kept.find(wire)) is not None:
                answer, label = found
                self._metrics.hits += 1
                self._metrics.answers[transport, label] += 1
                _send(datagrams, answer, client)
                continue
            self._metrics.misses += 1
            made = self.instance.answer(port, wire, transport, format_address(client))
            if isinstance(made, bytes):
                _send(datagrams, made, client)
            elif made is not None:
                self._spawn(self._send_later(datagrams, made, client))

    async def _send_later(self, datagrams: socket.socket, made: Awaitable[bytes], client: Any) -> None:
        _send(datagrams, await made, client)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection, each after a length of two bytes (RFC 7766, section 8)."""
        client = writer.get_extra_info("peername")
        transport: Transport = ("tcp", _family(client))
        self._connections += 1
        try:
            while self._connections <= _MOST_CONNECTIONS:
                async with asyncio.timeout(_IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    wire = await reader.readexactly(length)
                made = self.instance.answer(port, wire, transport, format_address(client))
                if made is None:
                    return
                answer = made if isinstance(made, bytes) else await made
                writer.write(len(answer).to_bytes(2, "big") + answer)
                async with asyncio.timeout(_IDLE):
                    await writer.drain()
        except (OSError, TimeoutError, EOFError):
            pass  # the client left, or said nothing for too long
        finally:
            self._connections -= 1
            writer.close()


def _family(client: tuple[Any, ...]) -> str:
    """`1` of IPv4, `2` of IPv6, as CoreDNS counts them (RFC 7871 has IANA's numbers)."""
    address: str = client[0]
    return "1" if "." in address else "2"


def _send(datagrams: socket.socket, answer: bytes, client: Any) -> None:
    with contextlib.suppress(OSError):  # it has left, or its queue is full: it will ask again
        datagrams.sendto(answer, client)
