"""Cluster DNS: how long an answer takes with 5,000 Services, and how many a second there are; beside a bare UDP echo.

    python -m benchmarks.dns [--services N] [--questions Q] [--json]

The server is a process of its own, follows a real API server by its watches, and is asked on loopback, as is the echo:
the same event loop and socket calls, and nothing else. Both are asked in turn, for a name at random each time:
- one at a time, for the time from the question to the answer: of names asked for the first time, and of all again;
- WINDOW at once, for the answers a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import msgspec
import uvloop

from benchmarks.api import Connection, request
from netlab.api.client import Client
from netlab.dns.cluster import ClusterNames
from netlab.dns.corefile import parse
from netlab.dns.instance import Instance
from netlab.dns.metrics import Metrics
from netlab.dns.server import Server
from tests.system.api.serving import Server as ApiServer

WINDOW = 32
_SERVICES = "/api/v1/namespaces/default/services"
_COREFILE = ".:{port} {{\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  pods insecure\n  ttl 30\n }}\n}}\n"


def service(number: int) -> bytes:
    """A Service with a named port."""
    spec = {"selector": {"app": f"app-{number}"}, "ports": [{"name": "http", "port": 80}]}
    return msgspec.json.encode({"metadata": {"name": f"svc-{number}"}, "spec": spec})


async def _fill(path: Path, count: int) -> None:
    async with Connection(path) as connection:
        for number in range(count):
            await connection.send(request("POST", _SERVICES, service(number)))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve_dns(path: Path, port: int, ready: Callable[[], None]) -> None:
    corefile = parse(_COREFILE.format(port=port), str)
    assert corefile.kubernetes is not None
    metrics = Metrics()
    async with Client(path) as client:
        instance = Instance(corefile, ClusterNames(client, corefile.kubernetes, []), metrics)
        following = asyncio.create_task(instance.follow())
        await instance.synced()
        await Server(instance, metrics).open(instance)
        ready()
        await following


async def _serve_echo(port: int, ready: Callable[[], None]) -> None:
    echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    echo.bind(("::", port))

    def read() -> None:
        for _ in range(64):
            try:
                wire, client = echo.recvfrom(65535)
            except BlockingIOError:
                return
            echo.sendto(wire, client)

    asyncio.get_running_loop().add_reader(echo.fileno(), read)
    ready()
    await asyncio.Event().wait()


def _spawn(serve: Callable[[Callable[[], None]], Awaitable[None]]) -> multiprocessing.Process:
    context = multiprocessing.get_context("fork")
    event = context.Event()
    process = context.Process(target=lambda: uvloop.run(serve(event.set)), daemon=True)  # type: ignore[arg-type]
    process.start()
    event.wait()
    return process  # type: ignore[return-value]


def questions(services: int, count: int) -> list[bytes]:
    """Questions for Services at random, with EDNS, as resolvers send them."""
    names = [f"svc-{random.randrange(services)}.default.svc.cluster.local" for _ in range(count)]
    return [dns.message.make_query(name, "A", use_edns=0, payload=1232).to_wire() for name in names]


def one_by_one(port: int, asked: Sequence[bytes]) -> list[float]:
    """The seconds of each."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        for wire in asked:
            began = time.perf_counter()
            client.send(wire)
            answer = client.recv(65535)
            found.append(time.perf_counter() - began)
            assert answer[:2] == wire[:2]
    return found


def a_second(port: int, asked: Sequence[bytes]) -> float:
    """Answers a second, with WINDOW questions under way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(5)
        began = time.perf_counter()
        for number, wire in enumerate(asked):
            client.send(wire)
            if number >= WINDOW:
                client.recv(65535)
        for _ in range(min(WINDOW, len(asked))):
            client.recv(65535)
        return len(asked) / (time.perf_counter() - began)


def measure(services: int, count: int) -> dict[str, Any]:
    """All figures: milliseconds, and answers a second."""
    with tempfile.TemporaryDirectory(prefix="netlab-") as directory, contextlib.ExitStack() as stack:
        api = ApiServer(Path(directory))
        api.config.write_text('{"serviceCIDRs": ["10.96.0.0/16"]}')
        api.start()
        stack.callback(api.end)
        asyncio.run(_fill(api.socket, services))
        ports = [_free_port(), _free_port()]
        processes = [
            _spawn(lambda ready: _serve_dns(api.socket, ports[0], ready)),
            _spawn(lambda ready: _serve_echo(ports[1], ready)),
        ]
        try:
            (first,) = questions(services, 1)
            one_by_one(ports[0], [first])  # it loads what writes messages at the first question
            each = [
                dns.message.make_query(f"svc-{number}.default.svc.cluster.local", "A", use_edns=0).to_wire()
                for number in range(services)
            ]
            again = questions(services, count)
            new, floor_new = one_by_one(ports[0], each), one_by_one(ports[1], each)
            one_by_one(ports[0], again)
            kept, floor = one_by_one(ports[0], again), one_by_one(ports[1], again)
            rates = [(a_second(ports[0], again), a_second(ports[1], again)) for _ in range(3)]
        finally:
            for process in processes:
                process.terminate()
                process.join()
    return {
        "services": services,
        "asked_first": _summary(new, floor_new),
        "asked_again": _summary(kept, floor),
        "a_second": {
            "value": round(statistics.median(each[0] for each in rates)),
            "floor": round(statistics.median(each[1] for each in rates)),
        },
    }


def _summary(seconds: list[float], floor: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(statistics.median(seconds) * 1000, 3),
        "p99_ms": round(statistics.quantiles(seconds, n=100)[98] * 1000, 3),
        "floor_ms": round(statistics.median(floor) * 1000, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.services, options.questions)
    if options.json:
        print(json.dumps(figures))
        return
    for what, value in figures.items():
        print(f"{what:14} {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}")


if __name__ == "__main__":
    main()
