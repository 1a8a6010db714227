"""Servers of HTTP: nginx, httpd, the update demo, and agnhost's test-webserver and liveness, as far as tests need them.

The first three serve the files of a folder, and read no configuration; the next all of the container's; the last is
alive for ten seconds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from netlab.machine.images import files, http, netexec
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import host_port

PORT = 80
LIVENESS_PORT = 8080

_ALIVE = 10.0  # seconds
_HTML = {"Content-Type": "text/html"}
_LARGEST = 1 << 20  # bytes of a file
_PAGES = {"nginx": files.NGINX, "httpd-foreground": files.HTTPD, "update-demo": files.UPDATE_DEMO}
_ROOTS = {name: os.path.dirname(path) for name, path in _PAGES.items()}  # noqa: PTH120
"""Where each has the files that it serves."""

Answer = Callable[[Request], Response]


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """nginx, httpd and the update demo: returns the exit status."""
    name = os.path.basename(argv[0])  # noqa: PTH119 - pid 1 stays small
    folder = _ROOTS[name]
    return serve(name, lambda request: document_of(folder, request))


def test_webserver() -> int:
    """agnhost's: returns the exit status."""
    return serve("test-webserver", lambda request: served_file(request.path, request))


def liveness() -> int:
    """agnhost's: returns the exit status."""
    started = time.monotonic()
    return serve("liveness", lambda request: health_after(time.monotonic() - started, request), LIVENESS_PORT)


def serve(name: str, answer: Answer, port: int = PORT) -> int:
    """Serve until told to end; returns the exit status."""
    try:
        server = netexec.listen(socket.SOCK_STREAM, port)
    except OSError as error:
        print(f"{name}: cannot listen on {host_port('::', port)}: {error.strerror}", file=sys.stderr)
        return 1
    if netexec.wait_for_client([server]):
        return 0
    return asyncio.run(_serve(server, answer))


async def _serve(server: socket.socket, answer: Answer) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)

    async def answer_and_log(request: Request) -> Response:
        response = answer(request)
        moment = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        line = f'{request.client} - - [{moment}] "{request.method} {request.target}" {response.status}'
        print(ascii(line)[1:-1], flush=True)
        return response

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        client = peer[0].removeprefix("::ffff:") if peer else "-"
        await http.serve_connection(reader, writer, client, answer_and_log)

    await asyncio.start_server(serve_client, sock=server)
    await end.wait()
    return 0


def document_of(folder: str, request: Request) -> Response:
    """A file of a folder; of a folder in it, its index.html."""
    path = os.path.normpath(f"/{request.path}")
    if request.path.endswith("/"):
        path = os.path.join(path, "index.html")  # noqa: PTH118 - pid 1 stays small
    return served_file(f"{folder}{path}", request)


def served_file(path: str, request: Request) -> Response:
    """The container's file at a path, open for reading."""
    return file_at(path) if request.method in ("GET", "HEAD") else Response("405 Method Not Allowed\n", 405)


def health_after(seconds: float, request: Request) -> Response:
    """What the server that is alive for ten seconds answers so many seconds after its start."""
    if request.path == "/healthz":
        return Response("ok") if seconds <= _ALIVE else Response(f"error: {seconds}", 500)
    if request.path == "/started":
        return Response(f"{seconds}s")
    if request.path == "/redirect":
        return Response(status=302, headers={"Location": request.form.get("loc", "")})
    return _nothing()


def file_at(path: str) -> Response:
    """A file of the container, as text, or the names in a folder. What is neither, or too large, is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return _nothing()
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            names = "".join(f"{name}\n" for name in sorted(os.listdir(descriptor)))  # noqa: PTH208 - of this very folder
            return Response(f"<pre>\n{names}</pre>\n", headers=_HTML)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return _nothing()
        text = os.read(descriptor, _LARGEST).decode(errors="replace")
        return Response(text, headers=_HTML if path.endswith(".html") else {})
    finally:
        os.close(descriptor)


def _nothing() -> Response:
    return Response("404 page not found\n", 404)
