"""A client's request to a server over one socket, and the answer or the reason why there is none."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import random
import socket
from collections.abc import Callable

from netlab.net.addresses import host_port

REFUSED = "connection refused"
"""A closed port, or a rule that rejects."""

NO_ANSWER = "no answer"
"""No answer within the time: a rule that drops, or no path there or back."""

TIMEOUT = 15.0
"""Seconds to wait for an answer that must come. It takes milliseconds, but all processors may be busy."""

PATIENCE = 0.3
"""Seconds to wait for an answer that must not come. It can be short, because a request is sent only when all nodes are
up to date; it is shorter than the time until TCP sends its SYN again (RFC 6298: 1 s)."""

_LARGEST = 65536
_SPARE_PORTS = range(20_000, 30_000)
"""Below node ports (30000 to 32767, kube-apiserver's --service-node-port-range) and those that the kernel chooses."""


def spare_port() -> int:
    """A random port for a client that must be distinguishable from others.

    With a fixed port, a node could take a connection for one of an earlier run, or give it another port: it remembers
    connections for minutes, and addresses are reused.
    """
    return random.choice(_SPARE_PORTS)  # noqa: S311


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of a request.

    `text` is the server's answer, or, if `ok` is false, why there is none: REFUSED, NO_ANSWER, or the kernel's message.
    `source` and `source_port` are the client's end of the exchange; `status` is HTTP's.
    """

    text: str
    ok: bool = True
    source: str = ""
    source_port: int = 0
    status: int = 0

    def __str__(self) -> str:
        return self.text

    @property
    def client(self) -> str:
        """The client's end as netexec's /clientip writes it: ADDRESS:PORT, an IPv6 address in brackets."""
        return host_port(self.source, self.source_port)


def http_get(client: socket.socket, address: str, port: int, path: str) -> Answer:
    """GET `path` over a TCP socket that is not connected yet. Closes the socket."""

    def ask() -> Answer:
        connection = http.client.HTTPConnection(address, port)
        connection.sock = client
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        # Wait until the server has closed too: the next capture must not see packets of this connection.
        with contextlib.suppress(OSError):
            client.recv(1)
        return Answer(text, status=response.status)

    return _answer(client, (address, port), ask)


def tcp_line(client: socket.socket, address: str, port: int, line: str) -> Answer:
    """Send a line over a TCP socket that is not connected yet; a line comes back. Closes the socket."""

    def ask() -> Answer:
        client.sendall(f"{line}\n".encode())
        with client.makefile("r", encoding="utf-8", errors="replace") as answers:
            return Answer(answers.readline().rstrip("\n"))

    return _answer(client, (address, port), ask)


def udp(client: socket.socket, address: str, port: int, text: str) -> Answer:
    """Send one datagram from a UDP socket; one comes back. Closes the socket."""

    def ask() -> Answer:
        client.send(text.encode())
        return Answer(client.recv(_LARGEST).decode(errors="replace"))

    return _answer(client, (address, port), ask)


def _answer(client: socket.socket, server: tuple[str, int], ask: Callable[[], Answer]) -> Answer:
    source, source_port = "", 0
    with client:
        try:
            client.connect(server)
            source, source_port = client.getsockname()[:2]
            answer = ask()
        except ConnectionRefusedError:
            answer = Answer(REFUSED, ok=False)
        except TimeoutError:
            answer = Answer(NO_ANSWER, ok=False)
        except OSError as error:
            answer = Answer(error.strerror or str(error), ok=False)
        except http.client.HTTPException as error:
            answer = Answer(f"not HTTP: {error or type(error).__name__}", ok=False)
    return dataclasses.replace(answer, source=source, source_port=source_port)
