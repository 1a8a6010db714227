"""CNI ADD and DEL through the executables: netlab beside Debian's Go bridge + host-local, interleaved in one run.

    python -m benchmarks.cni [--rounds N] [--json]

Every round adds and deletes containers with each pair of plugins, with ipMasq and without, one at a time and eight at
once; the figures are medians in milliseconds (of eight at once: of the whole batch) and ratios to the Go pair with the
same setting (package containernetworking-plugins; left out where it is not installed).

    installed   as `netlab cni install` leaves them, with nothing started by hand: an agent serves after the first call
    first       the same, when no agent serves: the call leaves one behind
    one-shot    with lingerSeconds 0, in Python: each call is a process of its own
    resident    with `netlab cni serve` running

The floor is what it takes to start the interpreter and do nothing.
It runs in namespaces of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from netlab.cni.installation.client import build
from netlab.cni.installation.install import install
from netlab.cni.plugins.call import SOCKET, agent_socket
from netlab.cni.plugins.resident.agent import dismissed
from netlab.net import syscalls
from tests.sandbox import enter

GO = Path("/usr/lib/cni")
AT_ONCE = 8
GOALS = {
    ("installed", "ADD", True): 0.4,
    ("installed", "ADD", False): 0.7,
    ("installed", "DEL", True): 0.5,
    ("installed", "DEL", False): 1.0,
    ("one-shot", "ADD", True): 1.0,
    ("one-shot", "ADD", False): 1.2,
    ("one-shot", "DEL", True): 0.7,
    ("one-shot", "DEL", False): 1.2,
    ("resident", "ADD", True): 0.4,
    ("resident", "ADD", False): 0.7,
}
"""Ratios to the Go pair, by way, command and ipMasq."""
GOAL_AT_ONCE = 0.6
"""Of the resident's ADDs, eight at once."""
_LONG = 600
"""Seconds: an agent that serves waits for the rounds of the others."""


class Pair(NamedTuple):
    """A main plugin and its IPAM, the folder that has them, and their lingerSeconds."""

    way: str
    main: str
    ipam: str
    folder: Path
    linger: int = 0


class Case(NamedTuple):
    """What was measured."""

    pair: str
    masquerade: bool
    at_once: int
    command: str


def network(pair: Pair, number: int, *, masquerade: bool, data_dir: Path) -> dict[str, Any]:
    """The configuration of a pair's network; the number keeps networks apart."""
    return {
        "cniVersion": "1.0.0",
        "name": f"net{number}",
        "type": pair.main,
        "bridge": f"br{number}",
        "isGateway": True,
        "ipMasq": masquerade,
        "lingerSeconds": pair.linger,
        "ipam": {
            "type": pair.ipam,
            "dataDir": str(data_dir),
            "ranges": [[{"subnet": f"10.{100 + number}.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }


def call(command: str, pair: Pair, config: dict[str, Any], container: str, netns: str) -> float:
    """One execution; its wall time in seconds."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(pair.folder),
    }
    began = time.perf_counter()
    subprocess.run(
        [pair.folder / pair.main], input=json.dumps(config).encode(), env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - began


def batch(command: str, pair: Pair, config: dict[str, Any], namespaces: Sequence[tuple[str, str]]) -> float:
    """As many executions at once as there are namespaces; the wall time of all in seconds."""
    if len(namespaces) == 1:
        return call(command, pair, config, *namespaces[0])
    with ThreadPoolExecutor(len(namespaces)) as threads:
        began = time.perf_counter()
        list(threads.map(lambda each: call(command, pair, config, *each), namespaces))
        return time.perf_counter() - began


def measure(rounds: int) -> dict[Case, list[float]]:
    """All times in seconds."""
    times: dict[Case, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as text, resident():
        folder = Path(text)
        client = build(folder / "client")
        pairs = []
        for way, linger in (("installed", _LONG), ("first", _LONG), ("one-shot", 0), ("resident", 0)):
            install(folder / way, client=None if way == "one-shot" else client)
            pairs.append(Pair(way, "netlab", "netlab-ipam", folder / way, linger))
        if (GO / "bridge").exists():
            pairs.insert(0, Pair("Go", "bridge", "host-local", GO))
        kinds = [(pair, masquerade) for pair in pairs for masquerade in (True, False)]
        for turn in range(-1, rounds):  # the first makes bridges, tables and compiled files, and does not count
            for at_once in (1, AT_ONCE):
                for number, (pair, masquerade) in enumerate(kinds):
                    config = network(pair, number, masquerade=masquerade, data_dir=folder / "state")
                    with serving(pair.way == "resident"), sandboxes(at_once, f"c{turn + 1}") as namespaces:
                        spent = {}
                        for command in ("ADD", "DEL"):
                            spent[command] = batch(command, pair, config, namespaces)
                            if pair.way == "first":
                                end_agent(agent_socket(str(pair.folder)))
                    for command, seconds in spent.items() if turn >= 0 else ():
                        times[Case(pair.way, masquerade, at_once, command)].append(seconds)
    return times


@contextlib.contextmanager
def resident() -> Iterator[None]:
    """The resident process, of this sandbox's own /run."""
    syscalls.mount("tmpfs", "/run", "tmpfs")
    server = subprocess.Popen(
        [sys.executable, "-m", "netlab", "cni", "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not Path(SOCKET).exists():
            if server.poll() is not None:
                raise SystemExit("netlab cni serve has ended")
            time.sleep(0.01)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


@contextlib.contextmanager
def serving(wanted: bool) -> Iterator[None]:
    """With the resident's socket in its place, or out of sight of the executables."""
    if wanted:
        yield
        return
    hidden = Path(SOCKET).with_suffix(".hidden")
    Path(SOCKET).rename(hidden)
    try:
        yield
    finally:
        hidden.rename(SOCKET)


@contextlib.contextmanager
def sandboxes(number: int, name: str) -> Iterator[list[tuple[str, str]]]:
    """Container ids, and new network namespaces for them."""
    children = []
    try:
        for _ in range(number):
            read_end, write_end = os.pipe()
            child = os.fork()
            if child == 0:
                syscalls.set_parent_death_signal(signal.SIGKILL)
                syscalls.unshare(syscalls.CLONE_NEWNET)
                os.write(write_end, b".")
                while True:
                    signal.pause()
            children.append(child)
            os.close(write_end)
            os.read(read_end, 1)
            os.close(read_end)
        yield [(f"{name}-{position}", f"/proc/{child}/ns/net") for position, child in enumerate(children)]
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def become_pid_1() -> None:
    """Go on as pid 1 of a pid namespace: an agent stays only in the namespaces of pid 1, and ends with it."""
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    syscalls.mount("proc", "/proc", "proc")


def end_agent(path: str) -> None:
    """End the agent that has just been left behind, once it has come so far as to serve."""
    while not Path(path).exists():
        time.sleep(0.01)
    with dismissed(path):
        pass


def floor(rounds: int) -> float:
    """Starting the interpreter as the executables do, for nothing: seconds."""
    interpreter = os.path.realpath(sys.executable)
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([interpreter, "-IS", "-c", ""], check=True, capture_output=True)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def figures(times: dict[Case, list[float]]) -> list[dict[str, Any]]:
    """A row for each case: its median, and what that is to the Go pair's and to the goal."""
    medians = {case: statistics.median(values) * 1e3 for case, values in times.items()}
    rows = []
    for case, milliseconds in medians.items():
        base = medians.get(case._replace(pair="Go"))
        goal = GOALS.get((case.pair, case.command, case.masquerade)) if case.at_once == 1 else None
        if case.at_once > 1 and (case.pair, case.command) == ("resident", "ADD"):
            goal = GOAL_AT_ONCE
        row = {"plugins": case.pair, "ipMasq": case.masquerade, "at_once": case.at_once, "command": case.command}
        row |= {"ms": round(milliseconds, 1), "ratio": round(milliseconds / base, 2) if base else None, "goal": goal}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    enter()
    become_pid_1()
    least = round(floor(options.rounds) * 1e3, 1)
    rows = figures(measure(options.rounds))
    if options.json:
        print(json.dumps({"floor_ms": least, "rounds": options.rounds, "figures": rows}, indent=2))
        return
    print(f"floor: an interpreter's start, {least} ms; medians of {options.rounds} rounds")
    for row in rows:
        goal = f"  goal {row['goal']}" if row["goal"] else ""
        print(
            f"{row['plugins']:9} {row['command']} x{row['at_once']}  ipMasq {'on ' if row['ipMasq'] else 'off'}"
            f"  {row['ms']:6} ms  ratio {row['ratio']}{goal}"
        )


if __name__ == "__main__":
    main()
