"""agnhost: Kubernetes' program for testing networks, built in, so that manifests made for it run unchanged.

Subcommands, with the flags of the real one: netexec, serve-hostname, connect, pause.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netlab.machine.images import http, netexec, pause
from netlab.machine.images.http import Request, Response


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false expected, not {text!r}")
    return text == "true"


_SWITCH: dict[str, Any] = {"type": _switch, "nargs": "?", "const": True}


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a subcommand; its exit status."""
    options = _parser().parse_args(argv[1:])
    run: Callable[[argparse.Namespace, Mapping[str, str]], int] = options.run
    return run(options, env)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("agnhost", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("netexec", allow_abbrev=False, help="HTTP, UDP and TCP servers")
    command.add_argument("--http-port", type=int, default=8080)
    command.add_argument("--udp-port", type=int, default=8081, help="-1: none")
    command.add_argument("--tcp-port", type=int, default=-1, help="-1: none (an extension)")
    command.add_argument("--udp-listen-addresses", default="")
    command.add_argument("--http-override", default="")
    command.add_argument("--delay-shutdown", type=int, default=0, help="seconds to serve on after SIGTERM")
    command.set_defaults(run=_netexec)

    command = commands.add_parser("serve-hostname", allow_abbrev=False, help="tells the hostname")
    command.add_argument("--port", type=int, default=9376)
    command.add_argument("--close", **_SWITCH, default=False, help="close the connection after each HTTP request")
    command.add_argument("--http", **_SWITCH, default=None)
    command.add_argument("--tcp", **_SWITCH, default=False)
    command.add_argument("--udp", **_SWITCH, default=False)
    command.set_defaults(run=_serve_hostname)

    command = commands.add_parser("connect", allow_abbrev=False, help="tells whether HOST:PORT can be reached")
    command.add_argument("target", metavar="HOST:PORT")
    command.add_argument("--timeout", type=netexec.parse_duration, default=0.0, help="a Go duration; 0: none")
    command.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
    command.set_defaults(run=_connect)

    commands.add_parser("pause", help="waits for its end").set_defaults(run=_pause)
    return parser


def _pause(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    print("Paused", flush=True)
    return pause.main((), env)


def _netexec(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    return asyncio.run(
        netexec.Netexec(
            netexec.Options(
                http_port=options.http_port,
                udp_port=options.udp_port,
                tcp_port=options.tcp_port,
                udp_addresses=tuple(filter(None, options.udp_listen_addresses.split(","))),
                http_override=options.http_override,
                delay_shutdown=options.delay_shutdown,
            ),
            env,
        ).serve()
    )


def _serve_hostname(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    if options.http and (options.tcp or options.udp):
        print("--http cannot be given with --tcp or --udp", file=sys.stderr)
        return 1
    return asyncio.run(_hostname_servers(options))


async def _hostname_servers(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    headers = {"Connection": "close"} if options.close else {}

    async def tell(request: Request) -> Response:
        return Response(socket.gethostname(), headers=headers)

    async def serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", tell)

    async def serve_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(socket.gethostname().encode())
        writer.close()

    if options.udp:
        udp = netexec.listen(socket.SOCK_DGRAM, options.port)
        await loop.create_datagram_endpoint(_HostnameDatagrams, sock=udp)
    if options.tcp or not options.udp:
        serve = serve_tcp if options.tcp else serve_http
        server = await asyncio.start_server(serve, sock=netexec.listen(socket.SOCK_STREAM, options.port))
        async with server:
            await end.wait()
    else:
        await end.wait()
    return 0


class _HostnameDatagrams(netexec.Datagrams):
    """Answers every datagram with the hostname."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._transport.sendto(socket.gethostname().encode(), addr)


def _connect(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Print nothing and return 0, or why the target cannot be reached: TIMEOUT, REFUSED, DNS or OTHER."""
    host, colon, port = options.target.rpartition(":")
    if not colon or not port.isdecimal():
        print("OTHER: HOST:PORT expected", file=sys.stderr)
        return 1
    try:
        _dial(host.strip("[]"), int(port), options.protocol, options.timeout or None)
    except socket.gaierror as error:
        reason = f"DNS: {error}"
    except TimeoutError:
        reason = "TIMEOUT"
    except ConnectionRefusedError:
        reason = "REFUSED"
    except OSError as error:
        reason = f"OTHER: {error.strerror}"
    else:
        return 0
    print(reason, file=sys.stderr)
    return 1


def _dial(host: str, port: int, protocol: str, timeout: float | None) -> None:
    if protocol == "tcp":
        socket.create_connection((host, port), timeout).close()
        return
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as client:
        client.settimeout(timeout)
        client.connect(address)
        client.send(b"hostname")  # netexec answers it; an ICMP error is ECONNREFUSED on the read
        client.recv(2048)
