"""agnhost netexec: a server that reports its pod's name and the client's address as it sees it (HTTP, UDP, TCP).

Endpoints, flags and answers are those of Kubernetes' agnhost (test/images/agnhost, README: netexec), without SCTP and
/upload. `--tcp-port` is an extension: agnhost's netexec has no plain TCP beside HTTP. It takes the commands of
UDP, one per line.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from netlab.machine import signals
from netlab.machine.images import http, tls
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import socket_family

_DIAL_TIMEOUT = 5.0
_SHELL_OUTPUT_LIMIT = 1024 * 1024
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Options:
    """The flags; a server whose port is -1 is not started."""

    http_port: int = 8080
    udp_port: int = 8081
    tcp_port: int = -1
    udp_addresses: tuple[str, ...] = ()
    http_override: str = ""
    delay_shutdown: float = 0.0
    tls_certificate: str = ""
    tls_key: str = ""

    @property
    def has_tls(self) -> bool:
        """Whether HTTP is served over TLS."""
        return bool(self.tls_certificate or self.tls_key)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: "300ms", "1m30s", "0". Raises `ValueError`."""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"invalid duration {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def listen(kind: socket.SocketKind, port: int, address: str = "") -> socket.socket:
    """A socket on all addresses of both families, or only IPv4 if the kernel has no IPv6."""
    if address:
        return _bind(socket_family(address), kind, address, port)
    try:
        return _bind(socket.AF_INET6, kind, "::", port)
    except OSError:
        return _bind(socket.AF_INET, kind, "0.0.0.0", port)  # noqa: S104 - a server in the pod's network


def _bind(family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    server = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        server.bind((address, port))
        if kind == socket.SOCK_STREAM:
            server.listen(4096)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    return server


def log(line: str) -> None:
    """Write a line to the container's log, in the format of Go's log package."""
    print(time.strftime("%Y/%m/%d %H:%M:%S"), ascii(line)[1:-1], file=sys.stderr, flush=True)


def wait_for_client(servers: Sequence[socket.socket]) -> bool:
    """Sleep until a client calls one of the servers (False), or the container gets a signal to end (True).

    An event loop takes half of a container's start and a quarter of its memory, and most containers of a large lab are
    never called.
    """
    told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signals.wake(tell)
    signals.handle(_END_SIGNALS, lambda number, frame: None)
    signals.unblock(_END_SIGNALS)
    called = select.poll()
    for each in (told, *(server.fileno() for server in servers)):
        called.register(each, select.POLLIN)
    called.poll()
    # on_end_signals unblocks them, so that none is lost in between.
    signals.block(_END_SIGNALS)
    signals.wake(-1)
    os.close(tell)
    try:
        return bool(os.read(told, 1))
    except BlockingIOError:
        return False
    finally:
        os.close(told)


def wait_for_end() -> None:
    """Sleep until the container is told to end, while threads serve."""
    wait_for_client(())


def on_end_signals(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    """Call `action` on SIGTERM and SIGINT, which a pid 1 without handlers would not notice.

    Not loop.add_signal_handler: it enumerates all signals each time, a tenth of a container's start.
    """

    def notice(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is already ending
            loop.call_soon_threadsafe(action)

    signals.handle(_END_SIGNALS, notice)
    signals.unblock(_END_SIGNALS)


def answer_command(command: str, client: str) -> str | None:
    """The answer to a UDP or TCP command, or None."""
    word, space, rest = command.partition(" ")
    match word.lower():
        case "hostname":
            return socket.gethostname()
        case "clientip":
            return client
        case "echo" if space:
            return rest
    return None


class Datagrams(asyncio.DatagramProtocol):
    """The UDP server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        # asyncio's own transport is no DatagramTransport before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Answer a command; as in agnhost, an unknown one gets no answer."""
        client = http.format_address(addr)
        command = data.decode(errors="replace").strip()
        log(f"Received {command[:80]} from {client}")
        answer = answer_command(command, client)
        if answer is None:
            log(f"unknown udp command: {command[:80]}")
        else:
            self._transport.sendto(answer.encode(), addr)


async def serve_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The TCP server: it answers each line, a command, with a line."""
    try:
        client = http.format_address(writer.get_extra_info("peername"))
        while line := await reader.readline():
            answer = answer_command(line.decode(errors="replace").strip(), client)
            writer.write(f"{'unknown command' if answer is None else answer}\n".encode())
            await writer.drain()
    except (OSError, ValueError):
        pass  # the client left, or sent an endless line
    finally:
        writer.close()


def run(options: Options, env: Mapping[str, str]) -> int:
    """Serve until told to end; returns the exit status."""
    try:
        sockets = Sockets(options)
    except OSError as error:
        log(f"listen: {error.strerror or error}")
        return 1
    ending = wait_for_client([*sockets.udp, *sockets.tcp, sockets.http])
    return asyncio.run(Netexec(options, env).serve(sockets, ending=ending))


class Sockets:
    """The bound and listening sockets of one container. Raises `OSError`."""

    def __init__(self, options: Options) -> None:
        self.udp: list[socket.socket] = []
        self.tcp: list[socket.socket] = []
        if options.udp_port != -1:
            addresses = options.udp_addresses or ("",)
            self.udp = [listen(socket.SOCK_DGRAM, options.udp_port, address) for address in addresses]
            log(f"Started UDP server on port {options.udp_port}")
        if options.tcp_port != -1:
            self.tcp = [listen(socket.SOCK_STREAM, options.tcp_port)]
            log(f"Started TCP server on port {options.tcp_port}")
        self.secret = tls.context(options.tls_certificate, options.tls_key) if options.has_tls else None
        self.http = listen(socket.SOCK_STREAM, options.http_port)
        log(f"Started HTTP{'S' if options.has_tls else ''} server on port {options.http_port}")


class Netexec:
    """The servers of one container."""

    def __init__(self, options: Options, env: Mapping[str, str]) -> None:
        self._options = options
        self._env = env
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[int] | None = None
        self._routes = {
            "/clientip": self._clientip,
            "/dial": self._dial,
            "/echo": self._echo,
            "/exit": self._exit,
            "/header": self._header,
            "/healthz": self._healthz,
            "/hostname": self._hostname,
            "/hostName": self._hostname,
            "/redirect": self._redirect,
            "/serverport": self._serverport,
            "/shell": self._shell,
            "/shutdown": self._shutdown,
            "/upload": self._upload,
        }

    async def serve(self, sockets: Sockets, *, ending: bool) -> int:
        """Serve until told to end, perhaps already before (`ending`); returns the exit status."""
        loop = asyncio.get_running_loop()
        self._end = loop.create_future()

        def end() -> None:
            loop.call_later(self._options.delay_shutdown, self._finish, 0)

        on_end_signals(loop, end)
        if ending:
            end()
        for each in sockets.udp:
            await loop.create_datagram_endpoint(Datagrams, sock=each)
        for each in sockets.tcp:
            self._servers.append(await asyncio.start_server(serve_lines, sock=each))
        if sockets.secret is None:
            self._servers.append(await asyncio.start_server(self._serve_http, sock=sockets.http))
        else:
            tls.serve_http(sockets.http, sockets.secret, functools.partial(self._answer_in_thread, loop))
        return await self._end

    def _answer_in_thread(self, loop: asyncio.AbstractEventLoop, request: Request) -> Response:
        return asyncio.run_coroutine_threadsafe(self._handle(request), loop).result()

    def _finish(self, code: int) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(code)

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await http.serve_connection(
                reader, writer, http.format_address(writer.get_extra_info("peername")), self._handle
            )
        finally:
            self._connections.discard(task)

    async def _handle(self, request: Request) -> Response:
        log(f"GET {request.target}")
        if self._options.http_override:
            path, _, query = self._options.http_override.partition("?")
            request = Request(
                "GET", path, path, http.parse_form(query), request.headers, request.client, request.server_port
            )
        # As in Go's ServeMux, the handler of "/" takes every path that no other handler takes.
        route = self._routes.get(request.path, self._now)
        return await route(request)

    async def _now(self, request: Request) -> Response:
        now = time.time()
        return Response(f"NOW: {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))}.{now % 1 * 1e9:09.0f} +0000 UTC")

    async def _clientip(self, request: Request) -> Response:
        return Response(request.client)

    async def _serverport(self, request: Request) -> Response:
        return Response(str(request.server_port))

    async def _hostname(self, request: Request) -> Response:
        return Response(socket.gethostname())

    async def _healthz(self, request: Request) -> Response:
        return Response()

    async def _header(self, request: Request) -> Response:
        key = request.form.get("key", "")
        if key:
            return Response(request.headers.get(key.lower(), ""))
        return Response(json.dumps({name.title(): [value] for name, value in request.headers.items()}))

    async def _echo(self, request: Request) -> Response:
        text, code = request.form.get("msg", ""), request.form.get("code", "")
        if not code:
            return Response(text)
        if not _is_status(code):
            return Response(f"argument 'code' must be an integer or empty, got {json.dumps(code)}\n")
        return Response(text, int(code))

    async def _redirect(self, request: Request) -> Response:
        location, code = request.form.get("location", ""), request.form.get("code", "")
        if code and not _is_status(code):
            return Response(f"argument 'code' must be an integer or empty, got {json.dumps(code)}\n")
        return Response(status=int(code or 302), headers={"Location": location})

    async def _shutdown(self, request: Request) -> Response:
        os._exit(0)

    async def _exit(self, request: Request) -> Response:
        code = request.form.get("code", "") or "0"
        if not code.isdecimal() or not 0 <= int(code) <= 127:
            return Response(f"argument 'code' must be an integer [0-127] or empty, got {json.dumps(code)}\n")
        spans = {}
        for name in ("timeout", "wait"):
            text = request.form.get(name, "") or "0"
            try:
                spans[name] = parse_duration(text)
            except ValueError:
                return Response(f"argument '{name}' must be a valid golang duration or empty, got {json.dumps(text)}\n")
        log(
            f"Will begin shutdown in {spans['wait']:g}s, allowing {spans['timeout']:g}s for connections to close, "
            f"then will exit with {code}"
        )
        await asyncio.sleep(spans["wait"])
        if spans["timeout"] == 0:
            os._exit(int(code))
        others = self._connections - {asyncio.current_task()}
        self._closing = asyncio.ensure_future(self._close(others, spans["timeout"], int(code)))
        return Response(headers={"Connection": "close"})

    async def _close(self, connections: set[asyncio.Task[None]], seconds: float, code: int) -> None:
        """Graceful shutdown: accept no new connections, and let the current ones finish."""
        for server in self._servers:
            server.close()
        if connections:
            await asyncio.wait(connections, timeout=seconds)
        self._finish(code)

    async def _shell(self, request: Request) -> Response:
        command = request.form.get("shellCommand") or request.form.get("cmd", "")
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self._env),
        )
        output, _ = await process.communicate()
        result = {}
        if output:
            result["output"] = output[:_SHELL_OUTPUT_LIMIT].decode(errors="replace")
        if process.returncode != 0:
            result["error"] = f"exit status {process.returncode}"
        return Response(json.dumps(result))

    async def _upload(self, request: Request) -> Response:
        return Response("this agnhost takes no uploads\n", 501)

    async def _dial(self, request: Request) -> Response:
        form = request.form
        host, port, text = form.get("host", ""), form.get("port", ""), form.get("request", "")
        protocol = form.get("protocol", "").lower() or "http"
        tries = form.get("tries", "") or "1"
        if not tries.isdecimal():
            return Response(f"tries parameter is invalid. {tries}\n", 400)
        if not text:
            return Response("request parameter not specified.\n", 400)
        if protocol not in ("http", "udp"):
            return Response(f"unsupported protocol. {protocol}\n", 400)
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            return Response("host and/or port param are invalid.\n", 400)
        responses: list[str] = []
        errors: list[str] = []
        for _ in range(int(tries)):
            try:
                async with asyncio.timeout(_DIAL_TIMEOUT):
                    dialing = http.get(host, port, text) if protocol == "http" else _dial_udp(host, port, text)
                    responses.append(await dialing)
            except TimeoutError:
                errors.append(f"dial {protocol} {host}:{port}: no answer within {_DIAL_TIMEOUT:g}s")
            except (OSError, EOFError) as error:
                errors.append(f"dial {protocol} {host}:{port}: {error}")
        outcome = {"responses": responses, "errors": errors}
        return Response(json.dumps({name: value for name, value in outcome.items() if value}))


async def _dial_udp(host: str, port: str, text: str) -> str:
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.setblocking(False)
        client.connect(address)
        client.send(text.encode())
        return (await loop.sock_recv(client, 2048)).decode(errors="replace")


def _is_status(text: str) -> bool:
    return text.isdecimal() and 200 <= int(text) <= 999
