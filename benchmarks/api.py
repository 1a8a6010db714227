"""The API server: writes with a watch open, lists of 5,000 pods, from a change to a watcher, memory; beside floors.

    python -m benchmarks.api [--pods N] [--writes W] [--services S] [--repeat K] [--json]

The server is a process of its own, and so is the bare answer: uvicorn with the same event loop and parser, and an
application that reads the body and answers with as many bytes. Requests are written beforehand, and sent over
CONNECTIONS connections at once; lists and changes one at a time. The SQLite floor is one transaction for each write
with the same statements. On a busy machine the server's own processor time says more than the clock: "of the server"
is that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.media_types import JSON, MERGE_PATCH
from netlab.api.server.storage.sqlite import Sqlite
from netlab.api.server.storage.store import Store
from tests.system.api.serving import Server, serving

CONNECTIONS = 4
CHANGES = 200
_PODS = "/api/v1/namespaces/default/pods"
_TABLE = f"{JSON};as=Table;v=v1;g=meta.k8s.io"
_TICK = os.sysconf("SC_CLK_TCK")


class Connection:
    """HTTP/1.1 over a Unix socket, as little of it as there can be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=1 << 26)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, request: bytes) -> bytes:
        """The body of the answer to a request."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 20"), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(length)

    async def watch(self, path: str) -> None:
        """Begin a watch."""
        self._writer.write(request("GET", path))
        await self._reader.readuntil(b"\r\n\r\n")

    async def event(self) -> Any:
        """The next event of a watch; chunks of several events are taken apart."""
        while True:
            line = await self._reader.readline()
            if line.startswith(b"{"):
                return line


def request(method: str, path: str, body: bytes = b"", kind: str = JSON, accept: str = JSON) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def pod(number: int) -> bytes:
    """A pod as a ReplicaSet makes it."""
    container = {
        "name": "web",
        "image": "agnhost:2.47",
        "args": ["netexec", "--http-port=8080"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
    }
    meta = {"name": f"web-{number:06d}", "labels": {"app": "web", "pod-template-hash": "5dbd9cc6fb"}}
    return msgspec.json.encode({"metadata": meta, "spec": {"containers": [container]}})


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def _each(path: Path, requests: Sequence[bytes]) -> None:
    """Send all of them, over several connections."""
    waiting = iter(requests)

    async def sender() -> None:
        async with Connection(path) as connection:
            for each in waiting:
                await connection.send(each)

    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))


async def _watched(path: Path, requests: Sequence[bytes]) -> None:
    """The same, until a watcher has seen as many events."""
    async with Connection(path) as watcher:
        await watcher.watch(f"{_PODS}?watch=1")

        async def see() -> None:
            for _ in requests:
                await watcher.event()

        await asyncio.gather(see(), _each(path, requests))


def _run(pid: int, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds on the clock, and of the process's processor time."""
    before, began = _cpu(pid), time.perf_counter()
    asyncio.run(_awaited(work))
    return time.perf_counter() - began, _cpu(pid) - before


async def _awaited(work: Callable[[], Awaitable[object]]) -> None:
    await work()


def writes(server: Server, bare: tuple[Path, int], count: int) -> dict[str, Any]:
    """Pods created a second, with a watch open."""
    assert server.process is not None
    requests = [request("POST", _PODS, pod(number)) for number in range(count)]
    seconds, used = _run(server.process.pid, lambda: _watched(server.socket, requests))
    bare_seconds, bare_used = _run(bare[1], lambda: _each(bare[0], requests))
    sqlite = _sqlite(count, len(requests[0]) * 2)
    return {
        "a second": round(count / seconds),
        "of the server, ms each": round(1e3 * used / count, 3),
        "floor: SQLite, ms each": round(1e3 * sqlite / count, 3),
        "floor: bare answer, ms each": round(1e3 * bare_used / count, 3),
        "bare answers a second": round(count / bare_seconds),
    }


def _sqlite(count: int, size: int) -> float:
    """Seconds of processor time for as many transactions."""
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        path = Path(directory) / "cluster.db"
        Store(Sqlite(path)).close()
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA synchronous = NORMAL")
        value = b"x" * size
        began = time.process_time()
        for number in range(count):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", ("pods", "default", str(number), value))
            database.execute("UPDATE revision SET value = ?", (number,))
            database.execute("COMMIT")
        used = time.process_time() - began
        database.close()
    return used


def lists(server: Server, bare: tuple[Path, int], count: int, repeat: int) -> dict[str, Any]:
    """Lists of so many pods: whole, as a table, and the first 500 of them."""
    assert server.process is not None
    pid = server.process.pid
    asyncio.run(_each(server.socket, [request("POST", _PODS, pod(number)) for number in range(count)]))
    asked = {
        "whole": request("GET", _PODS),
        "a table": request("GET", _PODS, accept=_TABLE),
        "a page of 500": request("GET", f"{_PODS}?limit=500"),
    }
    found: dict[str, Any] = {}
    for name, each in asked.items():
        times, used, size = _repeated(server.socket, pid, each, repeat)
        floor, *_ = _repeated(bare[0], bare[1], request("GET", f"/{size}"), repeat)
        found[name] = {
            "ms": round(1e3 * times, 1),
            "of the server, ms": round(1e3 * used, 1),
            "floor: as many bytes, ms": round(1e3 * floor, 1),
            "MB": round(size / 1e6, 1),
        }
    return found


def _repeated(path: Path, pid: int, asked: bytes, repeat: int) -> tuple[float, float, int]:
    async def ask() -> tuple[list[float], int]:
        times = []
        async with Connection(path) as connection:
            size = len(await connection.send(asked))
            for _ in range(repeat):
                began = time.perf_counter()
                await connection.send(asked)
                times.append(time.perf_counter() - began)
        return times, size

    before = _cpu(pid)
    times, size = asyncio.run(ask())
    return statistics.median(times), (_cpu(pid) - before) / (repeat + 1), size


def changes(server: Server) -> dict[str, Any]:
    """From sending a change to a watcher's having it."""

    async def measure() -> list[float]:
        times = []
        async with Connection(server.socket) as writer, Connection(server.socket) as watcher:
            listed = msgspec.json.decode(await writer.send(request("GET", f"{_PODS}?limit=1")))
            name = listed["items"][0]["metadata"]["name"]
            await watcher.watch(f"{_PODS}?watch=1&fieldSelector=metadata.name%3D{name}")
            await watcher.event()
            for number in range(CHANGES):
                patch = msgspec.json.encode({"metadata": {"annotations": {"n": str(number)}}})
                began = time.perf_counter()
                answered = asyncio.create_task(writer.send(request("PATCH", f"{_PODS}/{name}", patch, MERGE_PATCH)))
                await watcher.event()
                times.append(time.perf_counter() - began)
                await answered
        return times

    times = asyncio.run(measure())
    return {"ms": round(1e3 * statistics.median(times), 2), "ninth tenth": round(1e3 * _tenth(times), 2)}


def _tenth(times: list[float]) -> float:
    return statistics.quantiles(times, n=10)[-1]


_SERVICES = "/api/v1/namespaces/default/services"
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def memory(directory: Path, count: int) -> dict[str, Any]:
    """What the server occupies: empty, with so many Services and EndpointSlices of three endpoints, and restarted."""
    server = Server(directory)
    server.config.write_bytes(msgspec.json.encode({"serviceCIDRs": ["10.96.0.0/16"]}))
    server.start()
    found = {"empty": _resident(server)}
    asyncio.run(_each(server.socket, [request("POST", _SERVICES, service(number)) for number in range(count)]))
    asyncio.run(_each(server.socket, [request("POST", _SLICES, endpoint_slice(number)) for number in range(count)]))
    found["full"] = _resident(server)
    asyncio.run(_each(server.socket, [request("GET", _SERVICES), request("GET", _SLICES)]))
    found["at most, both listed"] = _resident(server, "VmHWM")
    server.end()
    server.start()
    found["started with them"] = _resident(server)
    server.end()
    return found


def _resident(server: Server, field: str = "VmRSS") -> str:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return f"{int(status.partition(f'{field}:')[2].split()[0]) / 1024:.0f} MiB"


def service(number: int) -> bytes:
    """A Service of one port."""
    name = f"web-{number:06d}"
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return msgspec.json.encode({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})


def endpoint_slice(number: int) -> bytes:
    """Its EndpointSlice, as the controller makes it."""
    name = f"web-{number:06d}"
    endpoints = [
        {
            "addresses": [f"10.244.{node}.{number % 250}"],
            "nodeName": f"node-{node}",
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": f"{name}-{node}", "uid": str(uuid.uuid4())},
        }
        for node in range(1, 4)
    ]
    meta = {"name": f"{name}-x7k2p", "labels": {"kubernetes.io/service-name": name}}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return msgspec.json.encode({"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints})


# --- the bare answer -------------------------------------------------------------------------------------------------


async def _application(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    size = int(scope["path"][1:]) if scope["method"] == "GET" else 2 * len(body)
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})


def _answer(path: str) -> None:
    import uvicorn

    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "off"}
    uvicorn.run(_application, uds=path, access_log=False, log_level="error", **options)


@contextmanager
def bare_answers(directory: Path) -> Iterator[tuple[Path, int]]:
    """A server that only answers: its socket and its pid."""
    path = directory / "bare.sock"
    process = multiprocessing.get_context("spawn").Process(target=_answer, args=(str(path),))
    process.start()
    assert process.pid is not None
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                break
        time.sleep(0.05)
    try:
        yield path, process.pid
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=5000, help="how many there are in a list")
    parser.add_argument("--writes", type=int, default=3000)
    parser.add_argument("--services", type=int, default=5000, help="how many there are when memory is looked at")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as text, bare_answers(Path(text)) as bare:
        for name in ("writes", "lists"):
            directory = Path(text) / name
            directory.mkdir()
            with serving(directory) as server:
                if name == "writes":
                    results["writes with a watch"] = writes(server, bare, arguments.writes)
                else:
                    found = lists(server, bare, arguments.pods, arguments.repeat)
                    results |= {f"a list of {arguments.pods}, {name}": each for name, each in found.items()}
                    results["from a change to a watcher"] = changes(server)
        directory = Path(text) / "memory"
        directory.mkdir()
        results[f"memory, {arguments.services} Services"] = memory(directory, arguments.services)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, values in results.items():
        print(f"{name:30} {', '.join(f'{key} {value}' for key, value in values.items())}")


if __name__ == "__main__":
    main()
