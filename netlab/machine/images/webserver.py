"""nginx, httpd and agnhost's test-webserver, as far as manifests that test a network need them: HTTP on port 80.

The first two have one page, and read no configuration; the third serves the container's files.
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

_HTML = {"Content-Type": "text/html"}
_LARGEST = 1 << 20  # bytes of a file
_PAGES = {
    "nginx": "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
    "<body><h1>Welcome to nginx!</h1></body>\n</html>\n",
    "httpd-foreground": "<html><body><h1>It works!</h1></body></html>\n",
}

Answer = Callable[[str], Response]
"""What is at a path."""


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """nginx and httpd: returns the exit status."""
    name = os.path.basename(argv[0])  # noqa: PTH119 - pid 1 stays small
    page = _PAGES[name]
    return serve(name, lambda path: Response(page, headers=_HTML) if path in ("/", "/index.html") else _nothing())


def test_webserver() -> int:
    """agnhost's: returns the exit status."""
    return serve("test-webserver", file_at)


def serve(name: str, answer: Answer) -> int:
    """Serve until told to end; returns the exit status."""
    try:
        server = netexec.listen(socket.SOCK_STREAM, PORT)
    except OSError as error:
        print(f"{name}: cannot listen on {host_port('::', PORT)}: {error.strerror}", file=sys.stderr)
        return 1
    if netexec.wait_for_client([server]):
        return 0
    return asyncio.run(_serve(server, answer))


async def _serve(server: socket.socket, answer: Answer) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)

    async def answer_and_log(request: Request) -> Response:
        response = answered(request, answer)
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


def answered(request: Request, answer: Answer) -> Response:
    """What is there, for whoever asks for it."""
    if request.method not in ("GET", "HEAD"):
        return Response("405 Method Not Allowed\n", 405, _HTML)
    return answer(request.path)


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


def _nothing() -> Response:
    return Response("404 page not found\n", 404)
