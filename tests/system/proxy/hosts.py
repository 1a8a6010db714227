"""A small network of real namespaces: pods a and c on node-1, pod b on node-2, the outside world."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from netlab.net import syscalls
from netlab.proxy.plan import Family
from tests.unit.proxy.flows import TARGET_PORT

T = TypeVar("T")

_AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_TYPE = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
ANSWERS = 5.0
"""Seconds in which whatever is not dropped answers, on the slowest machine."""
SILENCE = 0.3
"""Seconds without an answer that are taken for a drop."""


class Host:
    """A process in a network namespace of its own that calls functions on request."""

    def __init__(self, name: str) -> None:
        self.name = name
        ours, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve_requests(theirs)
        theirs.close()
        self._pipe: multiprocessing.connection.Connection[Any, Any] = ours
        assert self._pipe.recv() == "ready"

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a module's function in the host."""
        self._pipe.send((function, args))
        done, result = self._pipe.recv()
        if not done:
            raise AssertionError(f"on {self.name}: {result}")
        answer: T = result
        return answer

    def ip(self, script: str) -> None:
        """Run `ip -batch` lines in the host."""
        self.call(run_ip, script)


def _serve_requests(pipe: multiprocessing.connection.Connection[Any, Any]) -> None:
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    pipe.send("ready")
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            pipe.send((True, function(*args)))
        except BaseException as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


def run_ip(script: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True)


def set_sysctls(values: dict[str, str]) -> None:
    for key, value in values.items():
        (Path("/proc/sys/net") / key).write_text(value)


def serve(name: str) -> None:
    """Answer every TCP connection and UDP datagram with one's name and the client's address."""
    for family in _AF.values():
        for kind in _TYPE.values():
            listener = socket.socket(family, kind)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(("", TARGET_PORT))
            threading.Thread(target=_answer, args=(listener, name), daemon=True).start()


def _answer(listener: socket.socket, name: str) -> None:
    if listener.type == socket.SOCK_STREAM:
        listener.listen(64)
    while True:
        if listener.type == socket.SOCK_STREAM:
            connection, client = listener.accept()
            with connection:
                connection.sendall(f"{name} {client[0]}".encode())
        else:
            _, client = listener.recvfrom(100)
            listener.sendto(f"{name} {client[0]}".encode(), client)


def dial(family: Family, protocol: str, address: str, port: int, patience: float, source_port: int = 0) -> str:
    """What a server answers: `NAME CLIENT`; or `reject` or `drop`."""
    with socket.socket(_AF[family], _TYPE[protocol]) as client:
        client.settimeout(patience)
        try:
            if source_port:
                client.bind(("", source_port))
            client.connect((address, port))
            if protocol == "udp":
                # What the sender's own host refuses or drops fails at once; why is told by the answer, if any.
                with contextlib.suppress(PermissionError):
                    client.send(b"hello")
            return client.recv(100).decode()
        except TimeoutError:
            return "drop"
        except ConnectionRefusedError:
            return "reject"


def run_async(function: Callable[..., Any], *args: Any) -> Any:
    """Run a coroutine function of a module in the host."""
    return asyncio.run(function(*args))


def network() -> dict[str, Host]:
    """The hosts, wired; call it in namespaces of the test's own, where the fabric's bridge is made."""
    hosts = {name: Host(name) for name in ("node-1", "node-2", "outside", "a", "b", "c")}
    run_ip("link add br0 type bridge\nlink set br0 up\n")
    for index, name in enumerate(("node-1", "node-2", "outside")):
        number = {"node-1": "1", "node-2": "2", "outside": "253"}[name]
        number6 = {"node-1": "1", "node-2": "2", "outside": "fd"}[name]
        run_ip(f"link add p{index} type veth peer name eth0 netns {hosts[name].pid}\nlink set p{index} master br0 up\n")
        hosts[name].ip(
            "link set lo up\nlink set eth0 up\n"
            f"addr add 192.0.2.{number}/24 dev eth0\naddr add 2001:db8::{number6}/64 dev eth0 nodad\n"
        )
    for node in ("node-1", "node-2"):
        forwarding = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
        # The kernel answers one client with at most one ICMP error a second; the table asks for many.
        hosts[node].call(set_sysctls, forwarding | {"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0"})
    for pod, node, subnet, last in (("a", "node-1", 1, 2), ("c", "node-1", 1, 3), ("b", "node-2", 2, 2)):
        v4, v6 = f"10.244.{subnet}", f"fd00:10:244:{subnet}:"
        hosts[node].ip(
            f"link add v{pod} type veth peer name eth0 netns {hosts[pod].pid}\nlink set v{pod} up\n"
            f"addr add {v4}.1/32 dev v{pod}\naddr add {v6}:1/128 dev v{pod} nodad\n"
            f"route add {v4}.{last}/32 dev v{pod}\nroute add {v6}:{last}/128 dev v{pod}\n"
        )
        hosts[pod].ip(
            f"link set lo up\nlink set eth0 up\naddr add {v4}.{last}/32 dev eth0\n"
            f"addr add {v6}:{last}/128 dev eth0 nodad\n"
            f"route add {v4}.1/32 dev eth0\nroute add default via {v4}.1\n"
            f"route add {v6}:1/128 dev eth0\nroute add default via {v6}:1\n"
        )
    hosts["node-1"].ip(
        "route add 10.244.2.0/24 via 192.0.2.2\nroute add fd00:10:244:2::/64 via 2001:db8::2\n"
        "route add default via 192.0.2.253\nroute add default via 2001:db8::fd\n"
    )
    hosts["node-2"].ip(
        "route add 10.244.1.0/24 via 192.0.2.1\nroute add fd00:10:244:1::/64 via 2001:db8::1\n"
        "route add default via 192.0.2.253\nroute add default via 2001:db8::fd\n"
    )
    hosts["outside"].ip("route add default via 192.0.2.1\nroute add default via 2001:db8::1\n")
    for pod in ("a", "b"):
        hosts[pod].call(serve, pod)
    return hosts
