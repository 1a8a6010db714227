"""agnhost net: tests of connections that one end has closed (test/images/agnhost/net), run at once or by HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response

Log = Callable[[str], None]

_LEAKED: list[asyncio.StreamWriter] = []
"""Connections that stay open as long as the process does."""


class RunnerError(Exception):
    """A test has failed, or cannot be run."""


async def _close_wait_server(options: dict[str, Any], log: Log) -> None:
    """Half-close the first connection, so that its client is in CLOSE_WAIT, and wait."""
    host, port = _address(options, "localaddr")
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if accepted.done():
            writer.close()
        else:
            accepted.set_result(writer)

    server = await asyncio.start_server(accept, host or None, port)
    try:
        log(f"Server listening on {options.get('localaddr')}")
        writer = await accepted
    finally:
        server.close()
    log("Client connected")
    try:
        writer.write_eof()
        seconds = _seconds(options, "postfintimeoutseconds")
        log(f"Server sent FIN, waiting {seconds:g} seconds")
        await asyncio.sleep(seconds)
    finally:
        writer.close()
    log("Done")


async def _close_wait_client(options: dict[str, Any], log: Log) -> None:
    """Connect, wait until the server has half-closed the connection, and stay in CLOSE_WAIT."""
    host, port = _address(options, "remoteaddr")
    reader, writer = await asyncio.open_connection(host, port)
    leak = options.get("leakconnection") is True
    try:
        log("Connected to server")
        async with asyncio.timeout(_seconds(options, "timeoutseconds") or None):
            if await reader.read(1):
                raise RunnerError("Got data but expected EOF")
        seconds = _seconds(options, "postfintimeoutseconds")
        log(f"Server has half-closed the connection, waiting {seconds:g} seconds")
        if leak:
            log("Leaking client connection (assigning to global variable)")
            _LEAKED.append(writer)
        await asyncio.sleep(seconds)
    finally:
        if not leak:
            writer.close()
    log("Done")


def _address(options: dict[str, Any], name: str) -> tuple[str, int]:
    host, colon, port = str(options.get(name, "")).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise RunnerError(f"{name}: HOST:PORT expected")
    return host.strip("[]"), int(port)


def _seconds(options: dict[str, Any], name: str) -> float:
    value = options.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RunnerError(f"{name}: seconds expected")
    return float(value)


_RUNNERS: dict[str, Callable[[dict[str, Any], Log], Awaitable[None]]] = {
    "nat-closewait-client": _close_wait_client,
    "nat-closewait-server": _close_wait_server,
}


async def _execute(name: str, raw: str, log: Log) -> None:
    runner = _RUNNERS.get(name)
    if runner is None:
        raise RunnerError(f"Invalid runner: '{name}' (known: {', '.join(_RUNNERS)})")
    try:
        options = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RunnerError(f"Invalid options JSON: {error}") from None
    if not isinstance(options, dict):
        raise RunnerError("Invalid options JSON: an object expected")
    try:
        # Go finds the fields of JSON in any case.
        await runner({key.lower(): value for key, value in options.items()}, log)
    except TimeoutError:
        raise RunnerError("i/o timeout") from None
    except OSError as error:
        raise RunnerError(error.strerror or str(error)) from None


def run_once(name: str, options: str) -> int:
    """Run one; returns the exit status."""
    output: list[str] = []

    async def execute() -> None:
        await _execute(name, options, output.append)

    try:
        asyncio.run(execute())
        return 0
    except RunnerError as error:
        netexec.log(f"Error: {error}")
        return 1
    finally:
        print(_told(output), end="", flush=True)
        sys.stdout.flush()


def _told(output: list[str]) -> str:
    return "output:\n\n" + "".join(f"# {line}\n" for line in output)


def serve(address: str, delay_shutdown: int) -> int:
    """Run those that HTTP asks for (POST /run/NAME) until told to end; returns the exit status."""
    return asyncio.run(_serve(*_address({"serve": address}, "serve"), delay_shutdown))


async def _serve(host: str, port: int, delay_shutdown: int) -> int:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    netexec.on_end_signals(loop, lambda: loop.call_later(delay_shutdown, end.set))
    netexec.log(f"Running server on {host}:{port}")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", _answer)

    await asyncio.start_server(client, host or None, port)
    await end.wait()
    return 0


async def _answer(request: Request) -> Response:
    parts = request.path.split("/")
    if len(parts) != 3 or parts[1] != "run":
        return Response(f"invalid request to run: {request.path}\n", 400)
    output: list[str] = []
    try:
        await _execute(parts[2], request.body.decode(errors="replace"), output.append)
    except RunnerError as error:
        return Response(f"Error from runner: {error}\n{_told(output)}\n", 500)
    return Response(f"ok\n{_told(output)}")
