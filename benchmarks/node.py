"""What a client of a kubelet waits for: a command's round trip, a line of a log that is followed, pods that start.

    python benchmarks/node.py [--json] [--rounds 100]
    python benchmarks/node.py --pods 1000 [--json] [--rounds 100]
    python benchmarks/node.py --start [--json] [--rounds 100]

The first go the whole way: API server, TLS to the kubelet, machine and container. Each round has its floor beside it:
- a command: the same command by the machine's socket, a fork and an execve in the container and nothing else;
- a line: from one process to another by a pipe.

With --start: how soon a pod with a volume and variables is Ready after it was written, of a built-in image, of an image
of the store, and on a Docker engine (DOCKER_HOST). The floor: a sandbox and a container by the runtime alone.

With --pods: that, and pods with a volume and variables from a ConfigMap, and an emptyDir. How many a second start (the
floor: bare ones) and what each holds; what a kubelet takes when nothing happens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from benchmarks import _pods
from netlab.machine.async_client import AsyncMachine

_POD = """
apiVersion: v1
kind: Pod
metadata: {name: cat}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: host, stdin: true, command: [cat]}]
"""
_PATH = "/api/v1/namespaces/default/pods/cat"
_ERROR = 3
"""The channel of a WebSocket on which a command's status comes."""


async def commands(http: aiohttp.ClientSession, machine: AsyncMachine, rounds: int) -> tuple[list[float], list[float]]:
    """The seconds of `true` in a container: through the API, and by the machine."""
    state = await machine.state()
    (container,) = (each.id for each in state.containers if each.running)
    through, floor = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        async with http.ws_connect(
            f"http://lab{_PATH}/exec?command=true&stdout=true&stderr=true", protocols=["v5.channel.k8s.io"]
        ) as socket:
            async for message in socket:
                if message.data[0] == _ERROR:
                    break
        through.append(time.perf_counter() - began)
        began = time.perf_counter()
        await machine.exec(container, ["true"], 60)
        floor.append(time.perf_counter() - began)
    return through, floor


async def lines(http: aiohttp.ClientSession, rounds: int) -> tuple[list[float], list[float]]:
    """The seconds from a line that is written to the same line in a log that is followed; and through a pipe."""
    through, floor = [], []
    pipe = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert pipe.stdin is not None
    assert pipe.stdout is not None
    attach = http.ws_connect(f"http://lab{_PATH}/attach?stdin=true&stdout=true", protocols=["v5.channel.k8s.io"])
    async with http.get(f"http://lab{_PATH}/log?follow=true") as log, attach as attached:
        following = _lines_of(log)
        for number in range(rounds):
            line = b"%d\n" % number
            began = time.perf_counter()
            await attached.send_bytes(b"\0" + line)
            while await anext(following) != line:
                pass
            through.append(time.perf_counter() - began)
            began = time.perf_counter()
            pipe.stdin.write(line)
            await pipe.stdout.readline()
            floor.append(time.perf_counter() - began)
    pipe.stdin.close()
    await pipe.wait()
    return through, floor


async def _lines_of(log: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for line in log.content:
        yield line


async def measure(lab: Path, rounds: int) -> dict[str, dict[str, float]]:
    """All figures, in milliseconds."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(lab / "api.sock"))) as http,
        AsyncMachine(lab / "machines/node-1.sock") as machine,
    ):
        await commands(http, machine, 3)  # the kubelet loads its server at the first connection
        found = {"command": await commands(http, machine, rounds), "line of a log": await lines(http, rounds)}
    return {what: _summary(*seconds) for what, seconds in found.items()}


def _summary(through: list[float], floor: list[float]) -> dict[str, float]:
    median, floor_median = statistics.median(through) * 1000, statistics.median(floor) * 1000
    return {
        "median": round(median, 2),
        "p99": round(statistics.quantiles(through, n=100)[98] * 1000, 2),
        "floor": round(floor_median, 2),
        "ratio": round(median / floor_median, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pods", type=int, help="measure pods that start, so many")
    parser.add_argument("--start", action="store_true", help="measure how soon one pod is Ready")
    options = parser.parse_args()
    if options.start:
        with tempfile.TemporaryDirectory(prefix="netlab-bench-") as home:
            started = _pods.starts(Path(home), options.rounds)
        print(json.dumps(started)) if options.json else _pods.report_starts(started)
        return
    if options.pods:
        with tempfile.TemporaryDirectory(prefix="netlab-bench-") as home:
            of_pods = {
                "start": _pods.starts(Path(home), options.rounds),
                "many": _pods.many(Path(home), options.pods),
                "rest": _pods.rest(Path(home)),
            }
        print(json.dumps(of_pods)) if options.json else _pods.report(of_pods)
        return
    with tempfile.TemporaryDirectory(prefix="netlab-bench-") as home:
        environment = os.environ | {"NETLAB_HOME": home}
        netlab = [sys.executable, "-m", "netlab"]
        up = [*netlab, "up", "--nodes", "1", "--no-dns"]
        subprocess.run(up, env=environment, stdout=subprocess.DEVNULL, check=True)
        try:
            apply = [*netlab, "apply", "--wait", "-f", "-"]
            subprocess.run(apply, env=environment, input=_POD, text=True, stdout=subprocess.DEVNULL, check=True)
            figures = asyncio.run(measure(Path(home) / "default", options.rounds))
        finally:
            subprocess.run([*netlab, "down"], env=environment, stdout=subprocess.DEVNULL, check=True)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{'':16}{'median':>10}{'p99':>10}{'floor':>10}{'ratio':>8}")
    for what, each in figures.items():
        print(f"{what:16}{each['median']:7.2f} ms{each['p99']:7.2f} ms{each['floor']:7.2f} ms{each['ratio']:8.2f}")


if __name__ == "__main__":
    main()
