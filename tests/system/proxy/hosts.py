"""A small network of real namespaces: pods a and c on node-1, pod b on node-2, clients outside, the world beyond."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from netlab.net import syscalls
from netlab.net.addresses import Family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.nftables.executor import NftablesExecutor
from tests.system.proxy import sctp
from tests.unit.proxy.flows import ADDRESSES, BRIDGE, FAMILIES, NODE, NODE_INFO, TARGET_PORT, VARIANTS, dialled

T = TypeVar("T")

_AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_TYPE = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
ANSWERS = 5.0
"""Seconds in which whatever is not dropped answers, on the slowest machine."""
SILENCE = 0.3
"""Seconds without an answer that are taken for a drop."""
ENOUGH = 60
"""Connections after which each of two endpoints has been chosen: all to one has a probability of 2**-59."""


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


def executor(family: Family) -> NftablesExecutor:
    """One that knows nothing yet."""
    return NftablesExecutor(family, ProxyConfig(node_name=NODE, families=[family]))


def run_ip(script: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True)


def route_only() -> None:
    """Have the bridge's frames pass the IP layer alone, also where the machine has br_netfilter."""
    for name in ("iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}").write_text("0")


def set_sysctls(values: dict[str, str]) -> None:
    for key, value in values.items():
        (Path("/proc/sys/net") / key).write_text(value)


def serve(name: str, port: int = TARGET_PORT, addresses: Sequence[str] = ("0.0.0.0", "::")) -> None:
    """Answer every TCP connection, UDP datagram and SCTP INIT with one's name and the client's address."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in _TYPE.values():
            listener = socket.socket(family, kind)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            threading.Thread(target=_answer, args=(listener, name), daemon=True).start()
        if sctp.tracked():
            version: Family = "IPv6" if ":" in address else "IPv4"
            threading.Thread(target=sctp.answer, args=(version, name, address, port), daemon=True).start()


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


def dial(
    family: Family, protocol: str, address: str, port: int, patience: float, source: str = "", source_port: int = 0
) -> str:
    """What a server answers: `NAME CLIENT`; or `reject` or `drop`."""
    if protocol == "sctp":
        return sctp.dial(family, address, port, patience, source)
    with socket.socket(_AF[family], _TYPE[protocol]) as client:
        client.settimeout(patience)
        try:
            if source or source_port:
                client.bind((source, source_port))
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


class Probe(NamedTuple):
    """What to dial, and the servers that are to answer: it is dialled until each of them has."""

    family: Family
    protocol: str
    address: str
    port: int
    wanted: frozenset[str]
    source: str
    patience: float = ANSWERS


def dial_all(probes: list[Probe]) -> list[set[str]]:
    """What each probe is answered.

    At once: a TCP client in IPv6 hears of a refusal only when it sends its SYN again, a second later.
    """
    with concurrent.futures.ThreadPoolExecutor(16) as dialling:
        return list(dialling.map(_dial_until, probes))


def _dial_until(probe: Probe) -> set[str]:
    answers: set[str] = set()
    family, protocol, address, port, wanted, source, patience = probe
    for _ in range(ENOUGH):
        answer = dial(family, protocol, address, port, patience, source)
        answers.add(answer)
        seen = {answer.partition(" ")[0] for answer in answers}
        if not seen < wanted:
            break
    return answers


def run_async(function: Callable[..., Any], *args: Any) -> Any:
    """Run a coroutine function of a module in the host."""
    return asyncio.run(function(*args))


def network() -> dict[str, Host]:
    """The hosts, wired; call it in namespaces of the test's own, where the fabric's bridge is made."""
    hosts = {name: Host(name) for name in (NODE, "node-2", "outside", "world", "a", "b", "c")}
    run_ip("link add br0 type bridge\nlink set br0 up\n")
    own = {
        NODE: ["192.0.2.1/24", "2001:db8::1/64"],
        "node-2": ["192.0.2.2/24", "2001:db8::2/64"],
        "outside": ["192.0.2.253/24", "2001:db8::fd/64", "192.0.2.100/24", "2001:db8::64/64"],
        "world": ["192.0.2.254/24", "2001:db8::fe/64"],
    }
    for index, (name, addresses) in enumerate(own.items()):
        run_ip(f"link add p{index} type veth peer name eth0 netns {hosts[name].pid}\nlink set p{index} master br0 up\n")
        hosts[name].ip("link set lo up\nlink set eth0 up\n")
        hosts[name].ip("".join(f"addr add {a} dev eth0{' nodad' if ':' in a else ''}\n" for a in addresses))
    for node in (NODE, "node-2"):
        forwarding = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/send_redirects": "0"}
        # The kernel answers one client with at most one ICMP error a second; the table asks for many.
        hosts[node].call(set_sysctls, forwarding | {"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0"})
    for node, subnet in ((NODE, 1), ("node-2", 2)):
        hosts[node].call(route_only)
        hosts[node].ip(
            f"link add {BRIDGE} type bridge\nlink set {BRIDGE} up\naddr add 10.244.{subnet}.1/24 dev {BRIDGE}\n"
            f"addr add fd00:10:244:{subnet}::1/64 dev {BRIDGE} nodad\n"
        )
        # A bridge has settings of its own, made before the ones above were.
        hosts[node].call(set_sysctls, {f"ipv4/conf/{name}/send_redirects": "0" for name in ("default", BRIDGE, "eth0")})
    for pod, node in (("a", NODE), ("c", NODE), ("b", "node-2")):
        subnet = 1 if node == NODE else 2
        v4, v6 = f"10.244.{subnet}.1", f"fd00:10:244:{subnet}::1"
        hosts[node].ip(
            f"link add v{pod} type veth peer name eth0 netns {hosts[pod].pid}\nlink set v{pod} master {BRIDGE} up\n"
        )
        # Its neighbours by the gateway, too: else what they answer would miss the node, and the translation's way back.
        hosts[pod].ip(
            f"link set lo up\nlink set eth0 up\naddr add {ADDRESSES['IPv4'][pod]}/32 dev eth0\n"
            f"addr add {ADDRESSES['IPv6'][pod]}/128 dev eth0 nodad\n"
            f"route add {v4}/32 dev eth0\nroute add default via {v4}\n"
            f"route add {v6}/128 dev eth0\nroute add default via {v6}\n"
        )
        hosts[pod].call(set_sysctls, {"ipv6/conf/all/accept_redirects": "0", "ipv6/conf/eth0/accept_redirects": "0"})
    second4, second6 = (ADDRESSES[family]["secondary"] for family in FAMILIES)
    hosts[NODE].ip(
        "route add 10.244.2.0/24 via 192.0.2.2\nroute add fd00:10:244:2::/64 via 2001:db8::2\n"
        "route add default via 192.0.2.254\nroute add default via 2001:db8::fe\n"
        f"addr add {second4}/32 dev lo\naddr add {second6}/128 dev lo nodad\n"
    )
    # Answers to the outside go back through the node that was asked, which alone knows what it translated.
    hosts["node-2"].ip(
        "route add 10.244.1.0/24 via 192.0.2.1\nroute add fd00:10:244:1::/64 via 2001:db8::1\n"
        "route add 192.0.2.253/32 via 192.0.2.1\nroute add 2001:db8::fd/128 via 2001:db8::1\n"
        "route add 192.0.2.100/32 via 192.0.2.1\nroute add 2001:db8::64/128 via 2001:db8::1\n"
    )
    hosts["outside"].ip("route add default via 192.0.2.1\nroute add default via 2001:db8::1\n")
    # Whatever the node lets pass meets somebody who refuses it: not translated is not dropped.
    passed = ["10.96.0.0/16", "198.51.100.0/24", "fd00:10:96::/112", "2001:db8:ffff::/64"]
    hosts["world"].ip("".join(f"route add local {prefix} dev lo\n" for prefix in passed))
    hosts["world"].ip(
        "route add 10.244.0.0/16 via 192.0.2.1\nroute add fd00:10:244::/48 via 2001:db8::1\n"
        f"route add {second4}/32 via 192.0.2.1\nroute add {second6}/128 via 2001:db8::1\n"
    )
    # A load balancer that is a proxy is a server of its own, at the address that its Service has from it; and addresses
    # of a family that a Service leaves alone are somebody's.
    served = [("proxied", "loadBalancer"), ("other-family", "loadBalancer"), ("other-family", "externalIP")]
    worlds = [dialled(VARIANTS[name], kind, family)[0] for name, kind in served for family in FAMILIES]
    for address in worlds:
        hosts["world"].ip(
            f"addr add {address}/128 dev lo nodad\n" if ":" in address else f"addr add {address}/32 dev lo\n"
        )
    hosts["world"].call(serve, "w", 80, worlds)
    for pod in ("a", "b"):
        hosts[pod].call(serve, pod)
    # At its own address alone: a UDP server of all addresses would answer from the one next to the client.
    hosts[NODE].call(serve, "n", TARGET_PORT, NODE_INFO.addresses)
    return hosts
