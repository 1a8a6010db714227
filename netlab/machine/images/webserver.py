"""nginx and httpd: the servers of countless manifests, as far as those that test a network need them.

A page at `/` of port 80, and a line in the log for each request. Neither reads a configuration.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence

from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response
from netlab.net.addresses import host_port

PORT = 80

_PAGES = {
    "nginx": "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n"
    "<body><h1>Welcome to nginx!</h1></body>\n</html>\n",
    "httpd-foreground": "<html><body><h1>It works!</h1></body></html>\n",
}


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Serve until told to end; returns the exit status."""
    name = os.path.basename(argv[0])  # noqa: PTH119 - pid 1 stays small
    try:
        server = netexec.listen(socket.SOCK_STREAM, PORT)
    except OSError as error:
        print(f"{name}: cannot listen on {host_port('::', PORT)}: {error.strerror}", file=sys.stderr)
        return 1
    if netexec.wait_for_client([server]):
        return 0
    return asyncio.run(_serve(server, _PAGES[name]))


async def _serve(server: socket.socket, page: str) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)

    async def answer(request: Request) -> Response:
        response = answered(request, page)
        moment = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        line = f'{request.client} - - [{moment}] "{request.method} {request.target}" {response.status}'
        print(ascii(line)[1:-1], flush=True)
        return response

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        await http.serve_connection(reader, writer, peer[0].removeprefix("::ffff:") if peer else "-", answer)

    await asyncio.start_server(serve, sock=server)
    await end.wait()
    return 0


def answered(request: Request, page: str) -> Response:
    """The page at `/`, and nothing anywhere else."""
    headers = {"Content-Type": "text/html"}
    if request.method not in ("GET", "HEAD"):
        return Response("405 Method Not Allowed\n", 405, headers)
    if request.path not in ("/", "/index.html"):
        return Response("404 Not Found\n", 404, headers)
    return Response(page, headers=headers)
