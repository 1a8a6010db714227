"""Our kube-proxy beside any other, in the same run: `python -m benchmarks.proxy --against 'CMD …'`.

Each runs on the node, one after the other, against the embedded API server over HTTP: in CMD, {kubeconfig} stands for a
kubeconfig and {node} for the Node's name. Rules are seen by what `nft monitor` prints, so those of nftables and of
iptables over it; packets see any.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import proxy as bench
from netlab.api.client import Client
from netlab.api.resources import ENDPOINTSLICES, SERVICES
from netlab.net.multicast import Notices
from netlab.net.netlink import NETLINK_NETFILTER
from tests.system.proxy.hosts import Host
from tests.unit.proxy.flows import ADDRESSES, NODE

OURS = (
    f"{shlex.quote(sys.executable)} -m netlab proxy run --kubeconfig {{kubeconfig}} --hostname-override {{node}}"
    " --cluster-cidr 10.244.0.0/16"
)
_NFTABLES_GROUP = 7  # NFNLGRP_NFTABLES
_ROOM = 64 << 20
_API_PORT = 6443
_PAUSE = 1.1
"""Seconds between changes: what paces syncs, by default one a second, delays none of them."""
_LIMIT = 120.0
"""Seconds after which what has not happened does not happen."""


def beside(hosts: dict[str, Host], services: int, endpoints: int, rounds: int, command: str) -> dict[str, Any]:
    """The figures of our proxy and of the one that CMD starts, in seconds and MiB."""
    return {
        "services": services,
        "endpoints": endpoints,
        "ours": _figures(hosts, services, endpoints, rounds, OURS),
        "other": _figures(hosts, services, endpoints, rounds, command),
    }


def shown(found: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    ours, other = found["ours"], found["other"]
    yield f"beside another, {found['services']} Services of {found['endpoints']} endpoints"
    rows = (
        ("process to first connection", "first", 1, "s"),
        ("API write to rules, p50", "rules", 1e3, "ms"),
        ("API write to connection, p50", "write", 1e3, "ms"),
        ("memory", "memory", 1, "MiB"),
    )
    for title, name, unit, dimension in rows:
        ratio = f"ratio {ours[name] / other[name]:.2f}" if other[name] > 0 else ""
        both = (
            f"{whose} {each[name] * unit:10.2f} {dimension:3}" for whose, each in (("ours", ours), ("other", other))
        )
        yield f"  {title:28} {'  '.join(both)}  {ratio}"


def _figures(hosts: dict[str, Host], services: int, endpoints: int, rounds: int, command: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as text, bench.api_server(Path(text)) as api:
        asyncio.run(bench.fill(api, services, endpoints))
        code = f"from benchmarks.beside import relay; relay({str(api)!r})"
        relaying = hosts[NODE].call(bench.start, ["-c", code])
        words = {"kubeconfig": shlex.quote(str(_kubeconfig(Path(text)))), "node": NODE}
        began = time.monotonic()
        pid = hosts[NODE].call(_start, shlex.split(command.format(**words)))
        try:
            first = hosts["c"].call(bench.until_connected, bench.cluster_ip(services - 1), 80) - began
            time.sleep(1)
            resident = bench.memory(pid)["now"]
            rules = asyncio.run(_rule_times(api, hosts[NODE], services, rounds))
            write = asyncio.run(bench.write_times(api, hosts["c"], services + 1, rounds, 2 * _PAUSE))
        finally:
            for each in (pid, relaying):
                hosts[NODE].call(bench.end, each)
            hosts[NODE].call(bench.clean)
    seen = [seconds for seconds in rules if not math.isnan(seconds)]
    return {
        "first": first,
        "rules": statistics.median(seen) if seen else math.nan,
        "write": statistics.median(write),
        "memory": resident,
    }


def _start(argv: list[str]) -> int:
    with Path("/dev/null").open("w") as nowhere:
        return subprocess.Popen(argv, stdout=nowhere, stderr=nowhere).pid


def _kubeconfig(folder: Path) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{_API_PORT}"}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path.write_bytes(msgspec.json.encode(config))
    return path


def relay(api: str) -> None:
    """Pass connections to a port of this network namespace's loopback on to the API's socket, until ended."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(api)
        await asyncio.gather(pipe(reader, to_writer), pipe(to_reader, writer))

    async def main() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", _API_PORT)
        await server.serve_forever()

    asyncio.run(main())


async def _rule_times(api: Path, node: Host, number: int, rounds: int) -> list[float]:
    """Seconds from the write of a Service's endpoint to the event of the kernel's rule for it; NaN: none came."""
    times = []
    async with Client(api) as client:
        await client.create(SERVICES, bench.make_service(number))
        await client.create(ENDPOINTSLICES, bench.make_slice(number, [(ADDRESSES["IPv4"]["a"], NODE)]))
        for turn in range(rounds):
            address = f"10.200.{turn // 250}.{turn % 250 + 1}"
            await asyncio.sleep(_PAUSE)
            watching = asyncio.create_task(asyncio.to_thread(node.call, _until_seen, address))
            await asyncio.sleep(0.1)  # the watch begins
            began = time.monotonic()
            await client.update(ENDPOINTSLICES, bench.make_slice(number, [(address, NODE)]))
            times.append(await watching - began)
            if math.isnan(times[-1]):
                break
    return times


def _until_seen(address: str) -> float:
    """The time (monotonic) at which the kernel told of a rule or an element with an address; NaN: it did not."""
    packed, limit = socket.inet_aton(address), time.monotonic() + _LIMIT
    with Notices(NETLINK_NETFILTER, (_NFTABLES_GROUP,), _ROOM) as notices:
        while (left := limit - time.monotonic()) > 0:
            select.select([notices], [], [], left)
            if any(packed in data for data in notices.datagrams()):
                return time.monotonic()
    return math.nan
