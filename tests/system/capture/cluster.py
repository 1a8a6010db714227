"""Two nodes, joined by VXLAN, with the project's proxy; a client in a pod and one outside; servers that keep a log."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from netlab.api.core_types import Service, ServicePort, ServiceSpec
from netlab.api.discovery_types import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from netlab.api.meta_types import ObjectMeta
from netlab.capture.engine import Source
from netlab.capture.taps import Tap
from netlab.net.addresses import Family
from netlab.net.namespaces import entered
from netlab.proxy.config import ProxyConfig
from netlab.proxy.executor import executor_for
from netlab.proxy.plan import NodeInfo
from netlab.proxy.planner import plan_service
from tests.system.proxy.hosts import ANSWERS, Host, route_only, run_ip, set_sysctls

SUBNET: dict[Family, str] = {"IPv4": "10.244.{}.", "IPv6": "fd00:10:244:{}::"}
UNDERLAY: dict[Family, str] = {"IPv4": "192.0.2.", "IPv6": "2001:db8::"}
SERVICE: dict[Family, str] = {"IPv4": "10.96.0.10", "IPv6": "fd00:10:96::a"}
EXTERNAL: dict[Family, str] = {"IPv4": "198.51.100.10", "IPv6": "2001:db8:ffff::a"}
FAMILIES: tuple[Family, Family] = ("IPv4", "IPv6")
PODS = {"a": ("node-1", 2), "b1": ("node-1", 3), "b2": ("node-2", 2), "b3": ("node-2", 3)}
BACKENDS = ("b1", "b2", "b3")
NODES = {"node-1": 1, "node-2": 2}
PORTS = {"node-1": "p0", "node-2": "p1", "outside": "p2"}
PORT, TARGET_PORT = 80, 8080

REQUEST, REPLY, LOGGED = b"request " * 8, b"answered" * 8, b"logged.."
TOKEN_SIZE = len(LOGGED)
PATIENCE = 0.5
"""Seconds after which a UDP client asks again."""


def address(family: Family, name: str) -> str:
    if name in PODS:
        node, number = PODS[name]
        return f"{SUBNET[family].format(NODES[node])}{number}"
    return f"{UNDERLAY[family]}{NODES.get(name, 9)}"


# --- Wires -------------------------------------------------------------------------------------------------------


def network(*, filtered: bool) -> dict[str, Host]:
    """The hosts, wired; call it in namespaces of the test's own, where the fabric's bridge is made.

    `filtered`: the frames that the nodes' bridges pass on meet the IP layer's hooks, too (br_netfilter).
    """
    hosts = {name: Host(name) for name in (*PORTS, *PODS)}
    run_ip("link add fabric0 type bridge\nlink set fabric0 up\n")
    for name, port in PORTS.items():
        run_ip(f"link add {port} type veth peer name eth0 netns {hosts[name].pid}\nlink set {port} master fabric0 up\n")
        hosts[name].ip(
            "link set lo up\nlink set eth0 up\n"
            f"addr add {address('IPv4', name)}/24 dev eth0\naddr add {address('IPv6', name)}/64 dev eth0 nodad\n"
        )
    for family in FAMILIES:
        hosts["outside"].ip(f"route add {EXTERNAL[family]} via {address(family, 'node-1')}\n")
    for node, number in NODES.items():
        _wire_node(hosts, node, number)
        hosts[node].call(filter_bridges if filtered else route_only)
    return hosts


def filter_bridges() -> None:
    if not Path("/proc/sys/net/bridge").exists():
        pytest.skip("the kernel has no br_netfilter")
    set_sysctls({"bridge/bridge-nf-call-iptables": "1", "bridge/bridge-nf-call-ip6tables": "1"})


def _wire_node(hosts: dict[str, Host], node: str, number: int) -> None:
    host, other = hosts[node], 3 - number
    host.call(set_sysctls, {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
    host.ip(
        f"link add cni0 type bridge\nlink set cni0 up\naddr add 10.244.{number}.1/24 dev cni0\n"
        f"addr add fd00:10:244:{number}::1/64 dev cni0 nodad\n"
        f"link add vxlan7 address 02:00:00:00:00:0{number} type vxlan id 7 dstport 4789"
        f" local 192.0.2.{number} dev eth0 nolearning\nlink set vxlan7 up\n"
        f"addr add 10.244.{number}.254/32 dev vxlan7\naddr add fd00:10:244:{number}::fe/128 dev vxlan7 nodad\n"
    )
    for family in FAMILIES:
        subnet = SUBNET[family].format(other)
        gateway = f"{subnet}254" if family == "IPv4" else f"{subnet}fe"
        prefix = f"{subnet}0/24" if family == "IPv4" else f"{subnet}/64"
        host.ip(f"neigh add {gateway} lladdr 02:00:00:00:00:0{other} dev vxlan7\n")
        host.ip(f"route add {prefix} via {gateway} dev vxlan7 onlink\n")
    host.call(_forward, f"02:00:00:00:00:0{other}", f"192.0.2.{other}")
    for pod, (where, _) in PODS.items():
        if where != node:
            continue
        host.ip(
            f"link add v{pod} type veth peer name eth0 netns {hosts[pod].pid}\n"
            f"link set v{pod} master cni0 mtu 1450 up\n"
        )
        hosts[pod].ip("link set lo up\nlink set eth0 mtu 1450 up\n")
        hosts[pod].ip(
            f"addr add {address('IPv4', pod)}/24 dev eth0\naddr add {address('IPv6', pod)}/64 dev eth0 nodad\n"
        )
        hosts[pod].ip("".join(f"route add default via {SUBNET[family].format(number)}1\n" for family in FAMILIES))


def _forward(mac: str, endpoint: str) -> None:
    subprocess.run(["bridge", "fdb", "append", mac, "dev", "vxlan7", "dst", endpoint], check=True)


def load_proxy(family: Family, node: str) -> None:
    """Have the proxy's table on a node: everything is masqueraded, endpoints are on both nodes."""
    ports = ("TCP", "UDP")
    service = Service(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=ServiceSpec(
            clusterIP=SERVICE[family],
            clusterIPs=[SERVICE[family]],
            externalIPs=[EXTERNAL[family]],
            ports=[ServicePort(name=each.lower(), protocol=each, port=PORT) for each in ports],
        ),
    )
    endpoints = EndpointSlice(
        metadata=ObjectMeta(name="web", namespace="default", labels={"kubernetes.io/service-name": "web"}),
        addressType=family,
        endpoints=[
            Endpoint(addresses=[address(family, pod)], conditions=EndpointConditions(ready=True), nodeName=PODS[pod][0])
            for pod in BACKENDS
        ],
        ports=[EndpointPort(name=each.lower(), protocol=each, port=TARGET_PORT) for each in ports],
    )
    planned = plan_service(service, [endpoints], NodeInfo(node), family)
    assert planned.errors == []
    executor_for(family, ProxyConfig(node, masquerade_all=True)).replace(planned.frontends)


def sources(hosts: dict[str, Host]) -> Iterator[Source]:
    """A tap at every interface that a packet can cross, of the fabric and of every host."""
    for name, port in PORTS.items():
        yield Source(Tap("fabric", "fabric", port, "underlay", f"{name} eth0"), _packet_socket())
    for name, host in hosts.items():
        machine, _ = PODS.get(name, (name, 0))
        links = [("eth0", "pod" if name in PODS else "underlay")]
        if name in NODES:
            links += [("cni0", "bridge"), ("vxlan7", "vxlan")]
            links += [(f"v{pod}", "veth") for pod, (node, _) in PODS.items() if node == name]
        with inside(host):
            yield from [Source(Tap(machine, name, link, kind), _packet_socket()) for link, kind in links]  # type: ignore[arg-type]


def _packet_socket() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


class inside:  # noqa: N801 - a block
    """Be in a host's network namespace for the block."""

    def __init__(self, host: Host) -> None:
        self._namespace = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._entered = entered(self._namespace)

    def __enter__(self) -> None:
        self._entered.__enter__()

    def __exit__(self, *_: object) -> None:
        self._entered.__exit__(None, None, None)
        os.close(self._namespace)


# --- Servers: they all get the same requests, then a token, and keep whom it came from -----------------------------


class Peer(NamedTuple):
    """Who a server was talking to."""

    address: str
    port: int


_log: dict[bytes, Peer] = {}


def serve(own: str) -> None:
    """Serve TCP and UDP at an address of this host."""
    started = threading.Event()
    threading.Thread(target=asyncio.run, args=(_serve(own, started),), daemon=True).start()
    assert started.wait(10)


def logged() -> dict[bytes, Peer]:
    return _log


async def _serve(own: str, started: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(_answer, own, TARGET_PORT, backlog=1000)
    await loop.create_datagram_endpoint(_Datagrams, (own, TARGET_PORT))
    started.set()
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readexactly(len(REQUEST)) == REQUEST
    writer.write(REPLY)
    token = await reader.readexactly(TOKEN_SIZE)
    _log[token] = Peer(*writer.get_extra_info("peername")[:2])
    writer.write(LOGGED)
    await reader.read()
    writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) == TOKEN_SIZE:
            _log[data] = Peer(*addr[:2])
        self._transport.sendto(REPLY if data == REQUEST else LOGGED, addr)


# --- Clients: all connect, then all ask, then all send their tokens ------------------------------------------------


def call_tcp(own: str, service: str, ports: range, tokens: list[bytes]) -> list[int]:
    """One connection from each port, all at once. How often each asked is not for it to say: 0."""
    return asyncio.run(_call_tcp(own, service, ports, tokens))


def call_udp(own: str, service: str, ports: range, tokens: list[bytes]) -> list[int]:
    """One flow from each port, all at once; how often each sent its request and its token."""
    return asyncio.run(_call_udp(own, service, ports, tokens))


async def _call_tcp(own: str, service: str, ports: range, tokens: list[bytes]) -> list[int]:
    calls = await asyncio.gather(*(asyncio.open_connection(service, PORT, local_addr=(own, port)) for port in ports))
    for _, writer in calls:
        writer.write(REQUEST)
    for reader, _ in calls:
        assert await reader.readexactly(len(REPLY)) == REPLY
    for (_, writer), token in zip(calls, tokens, strict=True):
        writer.write(token)
    for reader, writer in calls:
        assert await reader.readexactly(len(LOGGED)) == LOGGED
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in calls))
    return [0 for _ in calls]


async def _call_udp(own: str, service: str, ports: range, tokens: list[bytes]) -> list[int]:
    loop = asyncio.get_running_loop()
    # Not connected: all their packets have the IP identification 0, so that nothing but the ports tells them apart.
    made = [await loop.create_datagram_endpoint(_Asking, (own, port)) for port in ports]
    calls = [protocol for _, protocol in made]
    await asyncio.gather(*(call.ask(REQUEST, (service, PORT)) for call in calls))
    await asyncio.gather(*(call.ask(token, (service, PORT)) for call, token in zip(calls, tokens, strict=True)))
    for transport, _ in made:
        transport.close()
    return [call.sent for call in calls]


class _Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.sent = 0
        self._heard: asyncio.Event = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data == self._wanted:
            self._heard.set()

    async def ask(self, data: bytes, service: tuple[str, int]) -> None:
        """Send until there is an answer: a server's queue may be full."""
        self._heard.clear()
        self._wanted = REPLY if data == REQUEST else LOGGED
        while not self._heard.is_set():
            self._transport.sendto(data, service)
            self.sent += 1
            try:
                await asyncio.wait_for(self._heard.wait(), PATIENCE)
            except TimeoutError:
                continue


def send_large(own: str, service: str, port: int) -> str:
    """Send a datagram that must be fragmented; the error that comes back."""
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(ANSWERS)
        client.bind((own, port))
        client.connect((service, PORT))
        client.send(bytes(4000))
        try:
            return repr(client.recv(100))
        except OSError as error:
            return type(error).__name__
