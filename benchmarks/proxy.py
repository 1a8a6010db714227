"""kube-proxy at scale: a cold start, one endpoint changed, the first packet, memory; beside floors of the same run.

    python -m benchmarks.proxy [--services N] [--endpoints M] [--rounds K] [--flows F] [--json] [--curves FILE.svg]
    python -m benchmarks.proxy [--services N] [--endpoints M] --starts
    python -m benchmarks.proxy [--services N] [--endpoints M] [--rounds K] --against 'CMD …'

Every Service has one port and M endpoints on a hundred nodes, a hundredth of them on this one. "From the list" is from
the bytes of the API's answer, already read, to rules in force; "from the process" begins with the interpreter and asks
the embedded API server. The floors are the same elements as one raw netlink batch, packed beforehand but for their
framing, and as text for `nft -f`. The start from the list and the raw batch are medians of seven, and so are the ratios
of such pairs: of the time on the clock, and of the processor time, of the main thread alone and of all threads. With
--starts these are all. One endpoint changed is from the event to the kernel's next generation; from the write is from
the API's PUT to the first connection that a pod makes through a Service which had no endpoint.
With flows, connection tracking holds F of UDP, of which three fifths become stale at once: how long until they are
gone, and how long changes of other Services take meanwhile.
With --curves cold start and first packet are measured from 10 Services to N, in both modes, and plotted.
It runs in namespaces of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import math
import multiprocessing
import operator
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from benchmarks._plot import plot
from netlab.api import decoding
from netlab.api.client import Client
from netlab.api.core_types import Node, NodeAddress, NodeStatus, Service, ServicePort, ServiceSpec
from netlab.api.discovery_types import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import ENDPOINTSLICES, NODES, SERVICES
from netlab.net.nftables.batch import Batch, messages
from netlab.net.nftables.socket import Nfnetlink
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.nftables.contents import Contents, whole
from netlab.proxy.nftables.elements import Ruleset
from netlab.proxy.nftables.fixed import TABLE, layout_of
from netlab.proxy.objects import SERVICES as READ_SERVICES
from netlab.proxy.objects import SLICES
from netlab.proxy.plan import Frontend, NodeInfo, Target, difference
from netlab.proxy.planner import plan_service
from netlab.proxy.run import run
from netlab.proxy.sync import Proxy
from tests.sandbox import enter
from tests.system.proxy.hosts import Host, network
from tests.unit.proxy.flows import ADDRESSES, NODE, TARGET_PORT

T = TypeVar("T")

NODE_COUNT = 100
SIZES = (10, 100, 1000, 5000, 10000)
STARTS = 7
"""Starts from the list, each with the raw batch beside it."""
SLOWEST_IPTABLES = 1000
"""Services up to which the curves have iptables: beyond, one start takes minutes."""
READY = EndpointConditions(ready=True, serving=True, terminating=False)


# --- The cluster -----------------------------------------------------------------------------------------------------


def cluster_ip(number: int) -> str:
    """The ClusterIP of a Service."""
    return f"10.96.{number // 250}.{number % 250 + 1}"


def make_service(number: int) -> Service:
    """A Service of one port."""
    return Service(
        metadata=ObjectMeta(name=f"svc-{number}", namespace="default", labels={"app": f"svc-{number}"}),
        spec=ServiceSpec(
            clusterIP=cluster_ip(number),
            clusterIPs=[cluster_ip(number)],
            ports=[ServicePort(name="http", port=80, targetPort=TARGET_PORT)],
            selector={},
        ),
    )


def make_slice(number: int, addresses: Sequence[tuple[str, str]]) -> EndpointSlice:
    """The slice of a Service: addresses and nodes."""
    return EndpointSlice(
        metadata=ObjectMeta(
            name=f"svc-{number}-a",
            namespace="default",
            labels={"kubernetes.io/service-name": f"svc-{number}"},
        ),
        addressType="IPv4",
        ports=[EndpointPort(name="http", port=TARGET_PORT, protocol="TCP")],
        endpoints=[
            Endpoint(addresses=[one], conditions=READY, nodeName=node, zone="zone-a") for one, node in addresses
        ],
    )


def addresses_of(number: int, endpoints: int, shift: int = 0) -> list[tuple[str, str]]:
    """Endpoints of a Service, spread over the nodes."""
    indices = [number * endpoints + each for each in range(endpoints)]
    return [
        (f"10.{128 + i % NODE_COUNT}.{i // 25000}.{(i // 100 + shift) % 250 + 1}", f"node-{i % 100}") for i in indices
    ]


def listed(objects: Sequence[Any]) -> bytes:
    """The API's answer to a list of them."""
    for number, each in enumerate(objects):
        each.metadata.uid = f"00000000-0000-0000-0000-{number:012}"
        each.metadata.resourceVersion = str(number + 1)
    return msgspec.json.encode({"metadata": {"resourceVersion": str(len(objects))}, "items": list(objects)})


def config_of(mode: Mode = "nftables") -> ProxyConfig:
    """The configuration measured."""
    return ProxyConfig(
        node_name=NODE, mode=mode, cluster_cidrs=["10.244.0.0/16", "10.128.0.0/9"], min_sync_seconds=0.001
    )


# --- From the list, in a process of its own --------------------------------------------------------------------------


def in_child(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a fork, whose memory is then its own."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            theirs.send(function(*args))
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        answer: T = ours.recv()
    os.waitpid(pid, 0)
    return answer


def proxy_of(services: bytes, slices: bytes, mode: Mode) -> Proxy:
    """A proxy that has read these lists."""
    proxy = Proxy(config_of(mode))
    for service in decoding.listed(READ_SERVICES, services)[0]:
        proxy.service_changed(None, service)
    for one in decoding.listed(SLICES, slices)[0]:
        proxy.slice_changed(None, one)
    return proxy


class Spent(NamedTuple):
    """Seconds on the clock, and of processor time: of this thread, and of all threads of the process."""

    clock: float
    thread: float
    all_threads: float

    @classmethod
    def so_far(cls) -> Self:
        """Since whenever."""
        return cls(time.perf_counter(), time.thread_time(), time.process_time())

    @classmethod
    def since(cls, began: Self) -> Self:
        """From then until now."""
        return cls(*map(operator.sub, cls.so_far(), began))


def cold_start(services: bytes, slices: bytes, mode: Mode) -> Spent:
    """From the lists to rules in force."""

    async def start() -> Spent:
        gc.disable()
        began = Spent.so_far()
        proxy = proxy_of(services, slices, mode)
        synced = asyncio.Event()
        serving = asyncio.create_task(proxy.serve(synced.set))
        await synced.wait()
        spent = Spent.since(began)
        serving.cancel()
        return spent

    return asyncio.run(start())


def change_times(services: bytes, slices: bytes, endpoints: int, rounds: int) -> list[float]:
    """Seconds from the event that one endpoint of a Service was replaced, or came or went, to the kernel."""

    async def follow() -> list[float]:
        gc.disable()
        proxy = proxy_of(services, slices, "nftables")
        count = len(decoding.listed(READ_SERVICES, services)[0])
        synced = asyncio.Event()
        serving = asyncio.create_task(proxy.serve(synced.set))
        await synced.wait()
        gc.freeze()
        gc.enable()
        times = []
        netlink = Nfnetlink()
        for turn in range(rounds):
            number = turn * 7 % count
            whole, other = addresses_of(number, endpoints), addresses_of(number, endpoints, 77)
            old = make_slice(number, whole)
            for new in (make_slice(number, [*whole[1:], other[0]]), make_slice(number, whole[1:]), old):
                await asyncio.sleep(0.03)
                seen = netlink.generation()
                began = time.perf_counter()
                proxy.slice_changed(old, new)
                while netlink.generation() == seen:  # noqa: ASYNC110  # the kernel has no event to wait for
                    await asyncio.sleep(0)
                times.append(time.perf_counter() - began)
                old = new
        serving.cancel()
        return times

    return asyncio.run(follow())


# --- Stale flows -----------------------------------------------------------------------------------------------------

CLIENT = "10.244.1.9"
"""A pod's address, which is not masqueraded."""
FLOW_CHANGE = 0.02
"""Seconds between two changes while stale flows are deleted."""


def udp_service(number: int) -> Service:
    """The Service of that number, of UDP."""
    service = make_service(number)
    service.spec.ports[0].protocol = "UDP"
    return service


def udp_slice(number: int, *addresses: str) -> EndpointSlice:
    """The slice of such a Service."""
    one = make_slice(number, [(address, NODE) for address in addresses])
    one.ports[0].protocol = "UDP"
    return one


def send_from(address: str, ports: range) -> None:
    """A datagram to port 80 of an address from each of these ports."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((CLIENT, port))
            client.sendto(b"x", (address, 80))


def tracked() -> int:
    """How many connections are tracked in this network namespace."""
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


class Flows:
    """A proxy of many Services and two of UDP, the endpoints of one of which are replaced under its flows."""

    def __init__(self, services: bytes, slices: bytes, endpoints: int, flows: int) -> None:
        self._proxy = proxy_of(services, slices, "nftables")
        self._count = len(decoding.listed(READ_SERVICES, services)[0])
        self._endpoints = endpoints
        self._flows = flows
        self._kept = flows * 2 // 5
        self._steady, self._changing = self._count, self._count + 1
        self._slice = udp_slice(self._changing, "10.244.1.4")
        self._netlink = Nfnetlink()
        self.gone: list[float] = []
        self.gone_by_program: list[float] = []
        """The same by the program conntrack."""
        self.changes: list[float] = []
        self.undisturbed: list[float] = []
        """Changes with as many flows, none of which is stale."""

    async def measure(self, rounds: int) -> None:
        """Fill `gone` and `changes`."""
        for number in (self._steady, self._changing):
            self._proxy.service_changed(None, udp_service(number))
        self._proxy.slice_changed(None, udp_slice(self._steady, "10.244.1.2"))
        synced = asyncio.Event()
        serving = asyncio.create_task(self._proxy.serve(synced.set))
        await synced.wait()
        gc.freeze()
        gc.enable()
        send_from(cluster_ip(self._steady), range(10000, 10000 + self._kept))
        for _ in range(rounds):
            await self._round()
        serving.cancel()

    async def _round(self) -> None:
        await self._replace("10.244.1.3")
        self._fill()
        began = time.perf_counter()
        argv = ["conntrack", "-D", "-p", "udp", "-d", cluster_ip(self._changing)]
        nowhere = asyncio.subprocess.DEVNULL
        deleting = await asyncio.create_subprocess_exec(*argv, stdout=nowhere, stderr=nowhere)
        await deleting.wait()
        self.gone_by_program.append(time.perf_counter() - began)
        self._fill()
        gone = asyncio.Event()
        others = asyncio.create_task(self._change_others(gone, self.undisturbed))
        await asyncio.sleep(1)
        gone.set()
        await others
        gone.clear()
        began = time.perf_counter()
        replacing = asyncio.create_task(self._replace("10.244.1.4"))
        others = asyncio.create_task(self._change_others(gone, self.changes))
        async with asyncio.timeout(120):
            while tracked() > self._kept:  # noqa: ASYNC110  # the kernel has no event to wait for
                await asyncio.sleep(0.002)
        self.gone.append(time.perf_counter() - began)
        gone.set()
        await replacing
        await others

    def _fill(self) -> None:
        send_from(cluster_ip(self._changing), range(10000 + self._kept, 10000 + self._flows))
        if tracked() < self._flows:
            raise SystemExit(
                f"the kernel tracks {tracked()} connections instead of {self._flows}: see nf_conntrack_max"
            )

    async def _replace(self, address: str) -> None:
        old, self._slice = self._slice, udp_slice(self._changing, address)
        await self._in_kernel(old, self._slice)

    async def _change_others(self, gone: asyncio.Event, times: list[float]) -> None:
        for turn in itertools.count():
            if gone.is_set() and turn % 2 == 0:
                return
            number = turn // 2 * 7 % self._count
            listed = addresses_of(number, self._endpoints)
            both = make_slice(number, listed), make_slice(number, listed[1:])
            times.append(await self._in_kernel(*(both if turn % 2 == 0 else both[::-1])))
            await asyncio.sleep(FLOW_CHANGE)

    async def _in_kernel(self, old: EndpointSlice, new: EndpointSlice) -> float:
        """Seconds until the kernel has a change."""
        seen, began = self._netlink.generation(), time.perf_counter()
        self._proxy.slice_changed(old, new)
        while self._netlink.generation() == seen:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        return time.perf_counter() - began


def flow_times(services: bytes, slices: bytes, endpoints: int, flows: int, rounds: int) -> dict[str, Any]:
    """While flows are stale: seconds until they are gone, by round, and from a Service's event to the kernel."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "replace", f"{CLIENT}/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "route", "replace", "default", "dev", "lo"], check=True)
    Path("/proc/sys/net/netfilter/nf_conntrack_udp_timeout").write_text("3600")
    gc.disable()
    measured = Flows(services, slices, endpoints, flows)
    asyncio.run(measured.measure(rounds))
    gone, changes = (measured.gone, measured.gone_by_program), (measured.changes, measured.undisturbed)
    return {
        "flows": flows,
        "stale": flows * 3 // 5,
        "gone": dict(zip(("proxy", "program"), map(statistics.median, gone), strict=True)),
        "change": {
            name: {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}
            for name, times in zip(("meanwhile", "undisturbed"), changes, strict=True)
        },
    }


def contents_of(services: bytes, slices: bytes) -> Contents:
    """What the table is to hold."""
    by_name = {one.metadata.name.removesuffix("-a"): one for one in decoding.listed(SLICES, slices)[0]}
    plan: dict[Frontend, Target] = {}
    for service in decoding.listed(READ_SERVICES, services)[0]:
        plan |= plan_service(service, [by_name[service.metadata.name]], NodeInfo(NODE), "IPv4").frontends
    ruleset = Ruleset(layout_of("IPv4", config_of()))
    ruleset.change(difference({}, plan))
    return ruleset.contents(plan)


def raw_floor(services: bytes, slices: bytes) -> Spent:
    """The same table by one raw netlink batch."""
    gc.disable()
    contents = contents_of(services, slices)
    layout = layout_of("IPv4", config_of())
    subprocess.run(["nft", "-f", "-"], input=layout.script(), text=True, check=True)
    time.sleep(1)
    with Nfnetlink() as netlink:
        began = Spent.so_far()
        chains = {name: chain.expressions for name, chain in contents.chains.items()}
        netlink.commit(messages(layout.ip, TABLE, Batch(come=contents.elements, chains_come=chains), layout.ranges))
        return Spent.since(began)


def text_floor(services: bytes, slices: bytes) -> float:
    """Seconds for the same table by text."""
    script = whole(layout_of("IPv4", config_of()), contents_of(services, slices))
    began = time.perf_counter()
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
    return time.perf_counter() - began


def clean() -> None:
    """Leave no table behind."""
    subprocess.run(["nft", "flush", "ruleset"], check=True)


# --- With an API server and real packets -----------------------------------------------------------------------------


def start(argv: Sequence[str]) -> int:
    """Start a program; its pid."""
    return subprocess.Popen([sys.executable, *argv]).pid


def end(pid: int) -> None:
    """End a program that `start` started in this process."""
    os.kill(pid, 15)
    os.waitpid(pid, 0)


def serve(api: str, ready: str, mode: Mode) -> None:
    """A proxy process: `ready` is made once the rules are in force."""

    async def main() -> None:
        async with Client(Path(api)) as client:
            await run(client, config_of(mode), lambda: Path(ready).touch())

    asyncio.run(main())


def memory(pid: int) -> dict[str, float]:
    """A process's resident memory now and at most, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status if ":" in line)
    return {"now": int(fields["VmRSS"].split()[0]) / 1024, "most": int(fields["VmHWM"].split()[0]) / 1024}


@contextlib.contextmanager
def api_server(folder: Path) -> Iterator[Path]:
    """The embedded API server."""
    (folder / "config.json").write_text(json.dumps({"serviceCIDRs": ["10.96.0.0/16"]}))
    path = folder / "api.sock"
    places = ["--socket", str(path), "--database", str(folder / "db"), "--config", str(folder / "config.json")]
    server = subprocess.Popen([sys.executable, "-m", "netlab.api.server", *places])
    try:
        while not path.exists():
            time.sleep(0.01)
        yield path
    finally:
        server.terminate()
        server.wait()


async def fill(api: Path, services: int, endpoints: int) -> None:
    """Make the Services and their slices; the last Service's one endpoint is pod a."""
    async with Client(api) as client:
        address = NodeAddress(type="InternalIP", address=ADDRESSES["IPv4"]["node"])
        await client.create(NODES, Node(metadata=ObjectMeta(name=NODE), status=NodeStatus(addresses=[address])))
        limit = asyncio.Semaphore(16)

        async def make(number: int) -> None:
            listed = addresses_of(number, endpoints) if number < services - 1 else [(ADDRESSES["IPv4"]["a"], NODE)]
            async with limit:
                await client.create(SERVICES, make_service(number))
                await client.create(ENDPOINTSLICES, make_slice(number, listed))

        await asyncio.gather(*(make(number) for number in range(services)))


def connect(address: str, port: int) -> float:
    """Seconds of a TCP connection's handshake; -1 if it was refused."""
    with socket.socket() as client:
        client.settimeout(5)
        began = time.perf_counter()
        try:
            client.connect((address, port))
        except ConnectionRefusedError:
            return -1
        return time.perf_counter() - began


def connects(service: tuple[str, int], direct: tuple[str, int], rounds: int) -> list[tuple[float, float]]:
    """Handshakes through a Service and direct, by turns."""
    return [(connect(*service), connect(*direct)) for _ in range(rounds)]


def until_connected(address: str, port: int, *, connected: bool = True) -> float:
    """The time (monotonic, of the machine) at which a connection succeeded for the first time, or failed."""
    while (connect(address, port) >= 0) != connected:
        time.sleep(0.002)  # more refusals than a thousand a second the kernel would not tell
    return time.monotonic()


async def write_times(api: Path, pod: Host, number: int, rounds: int, pause: float = 0.05) -> list[float]:
    """Seconds from the write of a Service's endpoint to a connection through the Service; `pause` before each."""
    times = []
    async with Client(api) as client:
        await client.create(SERVICES, make_service(number))
        await client.create(ENDPOINTSLICES, make_slice(number, []))
        for _ in range(rounds):
            await asyncio.to_thread(pod.call, disconnected, cluster_ip(number), 80)
            await asyncio.sleep(pause)
            asking = asyncio.create_task(asyncio.to_thread(pod.call, until_connected, cluster_ip(number), 80))
            await asyncio.sleep(0.01)
            began = time.monotonic()
            await client.update(ENDPOINTSLICES, make_slice(number, [(ADDRESSES["IPv4"]["a"], NODE)]))
            times.append(await asking - began)
            await client.update(ENDPOINTSLICES, make_slice(number, []))
    return times


def disconnected(address: str, port: int) -> float:
    """See until_connected."""
    return until_connected(address, port, connected=False)


def with_packets(hosts: dict[str, Host], services: int, endpoints: int, rounds: int, mode: Mode) -> dict[str, Any]:
    """What takes an API server, a proxy process and pods."""
    with tempfile.TemporaryDirectory() as text, api_server(Path(text)) as api:
        asyncio.run(fill(api, services, endpoints))
        ready = Path(text) / "ready"
        code = f"from benchmarks.proxy import serve; serve({str(api)!r}, {str(ready)!r}, {mode!r})"
        began = time.perf_counter()
        proxy = hosts[NODE].call(start, ["-c", code])
        while not ready.exists():
            time.sleep(0.002)
        found: dict[str, Any] = {"from the process": time.perf_counter() - began}
        time.sleep(0.5)
        found["memory"] = memory(proxy)
        service, direct = (cluster_ip(services - 1), 80), (ADDRESSES["IPv4"]["a"], TARGET_PORT)
        pairs = hosts["c"].call(connects, service, direct, rounds * 10)
        through, straight = (statistics.median(times) for times in zip(*pairs, strict=True))
        found["connect"] = {"through": through, "direct": straight, "ratio": through / straight}
        if mode == "nftables":
            found["write"] = asyncio.run(write_times(api, hosts["c"], services, rounds))
        hosts[NODE].call(end, proxy)
        hosts[NODE].call(clean)
    return found


# --- Report ----------------------------------------------------------------------------------------------------------


def percentile(times: Sequence[float], part: float) -> float:
    """The least of the times that so large a part of them does not exceed."""
    return sorted(times)[math.ceil(part * len(times)) - 1]


def lists_of(services: int, endpoints: int) -> tuple[bytes, bytes]:
    """The API's answers: Services and EndpointSlices."""
    return (
        listed([make_service(number) for number in range(services)]),
        listed([make_slice(number, addresses_of(number, endpoints)) for number in range(services)]),
    )


def measure_starts(services: bytes, slices: bytes, mode: Mode) -> dict[str, Any]:
    """Starts from the lists, and their floors."""
    starts: list[Spent] = []
    raws: list[Spent] = []
    for _ in range(STARTS if mode == "nftables" else 1):
        starts.append(in_child(cold_start, services, slices, mode))
        clean()
        if mode == "nftables":
            raws.append(in_child(raw_floor, services, slices))
            clean()
    found: dict[str, Any] = {"from the list": statistics.median(start.clock for start in starts)}
    if mode == "nftables":
        text = in_child(text_floor, services, slices)
        clean()
        pairs = list(zip(starts, raws, strict=True))
        found["floors"] = {
            "raw": statistics.median(raw.clock for raw in raws),
            "text": text,
            "raw ratios": sorted(start.clock / raw.clock for start, raw in pairs),
            "main thread": statistics.median(start.thread / raw.thread for start, raw in pairs),
            "all threads": statistics.median(start.all_threads / raw.all_threads for start, raw in pairs),
        }
    return found


def measure(
    hosts: dict[str, Host], services: int, endpoints: int, rounds: int, flows: int, mode: Mode
) -> dict[str, Any]:
    """All figures of one size, in seconds and MiB."""
    lists = lists_of(services, endpoints)
    found: dict[str, Any] = {"services": services, "endpoints": endpoints, "mode": mode}
    found |= measure_starts(*lists, mode)
    if mode == "nftables":
        times = in_child(change_times, *lists, endpoints, rounds)
        found["change"] = {"p50": statistics.median(times), "p99": percentile(times, 0.99)}
        clean()
        if flows:
            found["flows"] = in_child(flow_times, *lists, endpoints, flows, max(rounds // 5, 1))
            clean()
    found |= with_packets(hosts, services, endpoints, rounds, mode)
    if "write" in found:
        found["write"] = {"p50": statistics.median(found["write"]), "worst": max(found["write"])}
    return found


def report_starts(found: dict[str, Any]) -> Iterator[str]:
    """The figures of starts from the list."""
    yield f"  cold start from the list      {found['from the list']:8.3f} s"
    if "floors" in found:
        raw, text, ratios = (found["floors"][name] for name in ("raw", "text", "raw ratios"))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        ratio = f"ratio {statistics.median(ratios):.2f} ({spread})"
        yield f"    floor: one netlink batch    {raw:8.3f} s   {ratio}   goal 1.5"
        threads = (found["floors"][name] for name in ("main thread", "all threads"))
        yield "    processor time over its     {:8.2f} of the main thread, {:.2f} of all".format(*threads)
        yield f"    floor: text by nft -f       {text:8.3f} s   ratio {found['from the list'] / text:.2f}   goal 1"


def report(found: dict[str, Any]) -> Iterator[str]:
    """All figures of one size."""
    yield f"{found['mode']}, {found['services']} Services of {found['endpoints']} endpoints"
    yield from report_starts(found)
    yield f"  cold start from the process   {found['from the process']:8.3f} s"
    if "change" in found:
        change, write = found["change"], found["write"]
        change, write = ({name: seconds * 1e3 for name, seconds in times.items()} for times in (change, write))
        yield f"  one endpoint, event to kernel {change['p50']:8.2f} ms p50, {change['p99']:.2f} p99   goal 10"
        yield f"  API write to connection       {write['p50']:8.2f} ms p50, {write['worst']:.2f} worst   goal 50"
    if "flows" in found:
        flows = found["flows"]
        gone, change = flows["gone"], flows["change"]
        times = {name: f"{each['p50'] * 1e3:8.2f} ms p50, {each['p99'] * 1e3:.2f} p99" for name, each in change.items()}
        yield f"  {flows['stale']} of {flows['flows']} UDP flows gone   {gone['proxy']:8.3f} s   goal 0.5"
        yield f"    floor: conntrack -D         {gone['program']:8.3f} s   ratio {gone['proxy'] / gone['program']:.2f}"
        yield f"    one change meanwhile        {times['meanwhile']}   goal 20"
        yield f"    floor: none of them stale   {times['undisturbed']}"
    through = found["connect"]
    yield f"  connect through the Service   {through['through'] * 1e6:8.1f} us, {through['ratio']:.3f} of direct"
    yield f"  memory                        {found['memory']['now']:8.0f} MiB, at most {found['memory']['most']:.0f}"


def curves(found: Sequence[dict[str, Any]]) -> str:
    """The plot of cold starts and first packets."""
    lines: list[tuple[str, str, list[tuple[float, float]]]] = []
    for mode, colour in (("nftables", "#1f6feb"), ("iptables", "#d1242f")):
        of_mode = [each for each in found if each["mode"] == mode]
        lines.append((f"start, {mode}", colour, [(each["services"], each["from the list"]) for each in of_mode]))
        points = [(each["services"], each["connect"]["through"]) for each in of_mode]
        lines.append((f"connect, {mode}", colour, points))
    text = [(each["services"], each["floors"]["text"]) for each in found if "floors" in each]
    return plot([*lines, ("start, nft -f", "#6e7781", text)], "Services, 10 endpoints each")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--flows", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--starts", action="store_true", help="Measure starts from the list alone")
    parser.add_argument("--against", metavar="CMD", help="Measure ours beside another proxy: see benchmarks/beside.py")
    arguments = parser.parse_args()
    enter()
    if arguments.starts:
        print("\n".join(report_starts(measure_starts(*lists_of(arguments.services, arguments.endpoints), "nftables"))))
        return
    hosts = network()
    if arguments.against:
        from benchmarks.beside import beside, shown  # which imports this

        both = beside(hosts, arguments.services, arguments.endpoints, arguments.rounds, arguments.against)
        print(json.dumps(both, indent=2) if arguments.json else "\n".join(shown(both)))
        return
    sizes = [size for size in SIZES if size <= arguments.services] if arguments.curves else [arguments.services]
    found = []
    for mode in ("nftables", "iptables") if arguments.curves else ("nftables",):
        for size in sizes if mode == "nftables" else [size for size in sizes if size <= SLOWEST_IPTABLES]:
            found.append(measure(hosts, size, arguments.endpoints, arguments.rounds, arguments.flows, mode))
            if not arguments.json:
                print("\n".join(report(found[-1])), flush=True)
    if arguments.json:
        print(json.dumps(found, indent=2))
    if arguments.curves:
        arguments.curves.write_text(curves(found))


if __name__ == "__main__":
    main()
