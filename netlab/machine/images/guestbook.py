"""agnhost guestbook: a store of keys and values, whose primary passes on what it is told to its replicas."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlencode

from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import host_port

_PRIMARY, _REPLICA = "agnhost-primary", "agnhost-replica"
"""The Services that /guestbook asks."""
_PATIENCE, _PAUSE = 15.0, 1.0
"""Seconds for a replica to register, and between two attempts."""
_ANSWER = 5.0
"""Seconds for an answer of another guestbook's."""


class Guestbook:
    """One server: of the front, of the primary or of a replica."""

    def __init__(self, backend_port: str) -> None:
        self._backend_port = backend_port
        self._store: dict[str, Any] = {}
        self._replicas: list[str] = []

    async def answer(self, request: Request) -> Response:
        """The answer to a request."""
        form = request.form
        netexec.log(f"GET {request.target}")
        match request.path:
            case "/register":
                self._replicas.append(form.get("host", ""))
                netexec.log(f"Node '{form.get('host', '')}' registered.")
                return _data(self._store)
            case "/get":
                key = form.get("key", "")
                return _data(self._store.get(key, "") if key else self._store)
            case "/set":
                return await self._set(form.get("key", ""), form.get("value", ""))
            case "/guestbook":
                return await self._front(form)
        return Response("404 page not found\n", 404)

    async def register(self, primary: str) -> None:
        """Ask the primary for its store, and to be told of changes. Raises `TimeoutError`."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    own = _own_address(primary, int(self._backend_port))
                    netexec.log(f"Registering to primary: {host_port(primary, self._backend_port)}")
                    self._store = json.loads(await self._ask(primary, "register", {"host": own}))["data"]
                    netexec.log(f"Registered to node: {primary}")
                    return
                except (OSError, EOFError, ValueError, KeyError) as error:
                    netexec.log(f"encountered error while registering to primary: {error}. Retrying in {_PAUSE:g}s.")
                    await asyncio.sleep(_PAUSE)

    async def _set(self, key: str, value: str) -> Response:
        if not key:
            return Response("cannot set with empty key.\n", 400)
        self._store[key] = value
        for replica in self._replicas:
            try:
                await self._ask(replica, "set", {"key": key, "value": value})
            except (OSError, EOFError) as error:
                return Response(f"encountered error while propagating to replica '{replica}': {error}\n", 417)
        return Response(json.dumps({"message": "Updated"}))

    async def _front(self, form: dict[str, str]) -> Response:
        command, key = form.get("cmd", "").lower(), form.get("key", "")
        if command not in ("get", "set"):
            return Response(f"unsupported cmd: '{command}'\n", 400)
        if command == "set" and not key:
            return Response("cannot set with empty key.\n", 400)
        host = _REPLICA if command == "get" else _PRIMARY
        try:
            return Response(await self._ask(host, command, {"key": key, "value": form.get("value", "")}))
        except (OSError, EOFError) as error:
            return Response(f"encountered error: {error}\n", 417)

    async def _ask(self, host: str, path: str, form: dict[str, str]) -> str:
        async with asyncio.timeout(_ANSWER):
            return await http.get(host, self._backend_port, f"{path}?{urlencode(form)}")


def run(port: int, backend_port: str, primary: str) -> int:
    """Serve until told to end; returns the exit status. With `primary` it is a replica of it."""
    try:
        listener = netexec.listen(socket.SOCK_STREAM, port)
    except OSError as error:
        netexec.log(f"listen: {error.strerror}")
        return 1
    return asyncio.run(_serve(listener, Guestbook(backend_port), primary))


async def _serve(listener: socket.socket, guestbook: Guestbook, primary: str) -> int:
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def finish(status: int) -> None:
        if not end.done():
            end.set_result(status)

    async def register() -> None:
        try:
            await guestbook.register(primary)
        except TimeoutError:
            netexec.log("Timed out while registering to primary.")
            finish(1)

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", guestbook.answer)

    netexec.on_end_signals(asyncio.get_running_loop(), lambda: finish(0))
    await asyncio.start_server(serve_client, sock=listener)
    registering = asyncio.ensure_future(register()) if primary else None
    status = await end
    if registering is not None:
        registering.cancel()
    return status


def _own_address(host: str, port: int) -> str:
    """The address from which this host reaches another."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        own: str = probe.getsockname()[0]
        return own


def _data(value: Any) -> Response:
    return Response(json.dumps({"data": value}))
