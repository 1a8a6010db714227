"""The client's side, as the C library has it: resolv.conf(5), the names that are tried, a question to a server."""

from __future__ import annotations

import dataclasses
import socket
import time

from netlab.net.addresses import socket_family

_MOST_NDOTS = 15
"""glibc's RES_MAXNDOTS."""
_LARGEST = 65535


@dataclasses.dataclass(frozen=True)
class ResolvConf:
    """What /etc/resolv.conf says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    ndots: int = 1

    def candidates(self, name: str) -> list[str]:
        """The full names to ask for, in order, until one exists (resolv.conf(5), `search` and `ndots`)."""
        if name.endswith("."):
            return [name]
        searched = [f"{name}.{domain.removesuffix('.')}." if domain != "." else f"{name}." for domain in self.searches]
        whole = [f"{name}."]
        return list(dict.fromkeys([*whole, *searched] if name.count(".") >= self.ndots else [*searched, *whole]))


def parse(text: str) -> ResolvConf:
    """A resolv.conf's text; what it does not know is left out, as by the C library."""
    servers: list[str] = []
    searches: list[str] = []
    ndots = 1
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                searches = domains
            case ["options", *options]:
                for option in options:
                    word, _, number = option.partition(":")
                    if word == "ndots" and number.isdecimal():
                        ndots = min(int(number), _MOST_NDOTS)
    return ResolvConf(tuple(servers), tuple(searches), ndots)


def exchange(server: str, port: int, question: bytes, *, tcp: bool, seconds: float) -> bytes:
    """The answer of a server to a message. Raises `OSError`, of which `TimeoutError` is one, or `EOFError`."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket_family(server), kind) as client:
        client.settimeout(seconds)
        client.connect((server, port))
        if tcp:
            client.sendall(len(question).to_bytes(2, "big") + question)
            return _exactly(client, int.from_bytes(_exactly(client, 2), "big"))
        client.send(question)
        until = time.monotonic() + seconds
        while (answer := client.recv(_LARGEST))[:2] != question[:2]:
            client.settimeout(max(until - time.monotonic(), 0.001))
        return answer


def _exactly(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = client.recv(size - len(found))
        if not part:
            raise EOFError("the server closed the connection")
        found += part
    return found
