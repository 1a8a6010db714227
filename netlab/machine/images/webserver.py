"""Servers of HTTP: nginx, httpd, and agnhost's test-webserver and liveness, as far as tests of a network need them.

The first two have one page, and read no configuration; the third serves the container's files; the last is alive for
ten seconds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import host_port

PORT = 80
LIVENESS_PORT = 8080

_ALIVE = 10.0  # seconds
_HTML = {"Content-Type": "text/html"}
_LARGEST = 1 << 20  # bytes of a file
_PAGES = {
    "nginx": "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
    "<body><h1>Welcome to nginx!</h1></body>\n</html>\n",
    "httpd-foreground": "<html><body><h1>It works!</h1></body></html>\n",
}

_OF_THE_IMAGE = {
    "/localhost.crt": """\
-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUJvJ9h6tJC1IzATplIRi9hDCc+GswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDAyNTkwM1oYDzIxMjYxMTA2
MDI1OTAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASfn19HapFT94e2G8VZF90TMDuF9sI+Nj7bwoRpMvFWn0LwdX6kGcA2
TiBNi6OTA939uLmM7vd7kYxcLSB1OF9Mo2kwZzAdBgNVHQ4EFgQUWU64qXyDskL1
Q3oQgfUx+czZWrcwHwYDVR0jBBgwFoAUWU64qXyDskL1Q3oQgfUx+czZWrcwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIhAJViSrM7AtMuP2rJFVZFIaEy2wqQ1QJg64fGPXHYMwAOAiAxyQnw4Lbf
wHvTN6KEaZ/TA0Nx5DTi+NUYjWLYBxIzHA==
-----END CERTIFICATE-----
"""
}
"""What the image of agnhost has in its root. Here containers share a root, so the server alone has it."""

Answer = Callable[[Request], Response]


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """nginx and httpd: returns the exit status."""
    name = os.path.basename(argv[0])  # noqa: PTH119 - pid 1 stays small
    page = _PAGES[name]
    return serve(name, lambda request: page_of(page, request))


def test_webserver() -> int:
    """agnhost's: returns the exit status."""
    return serve("test-webserver", served_file)


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


def page_of(page: str, request: Request) -> Response:
    """A page at `/`, and nothing anywhere else."""
    if request.method not in ("GET", "HEAD"):
        return _not_allowed()
    return Response(page, headers=_HTML) if request.path in ("/", "/index.html") else _nothing()


def served_file(request: Request) -> Response:
    """The container's file, or the image's, at the path that is asked for."""
    if request.method not in ("GET", "HEAD"):
        return _not_allowed()
    return Response(_OF_THE_IMAGE[request.path]) if request.path in _OF_THE_IMAGE else file_at(request.path)


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
        return Response(os.read(descriptor, _LARGEST).decode(errors="replace"))
    finally:
        os.close(descriptor)


def _not_allowed() -> Response:
    return Response("405 Method Not Allowed\n", 405)


def _nothing() -> Response:
    return Response("404 page not found\n", 404)
