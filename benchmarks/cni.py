"""CNI ADD and DEL through the executables: netlab beside Debian's Go bridge + host-local, interleaved.

    python -m benchmarks.cni [--rounds N] [--json]

Each round adds and deletes one container with every pair of plugins; the figures are medians in milliseconds, and
ratios to the Go pair (package containernetworking-plugins; left out where it is not installed). "netlab, Go IPAM" is
our main plugin delegating to the Go host-local. It runs in namespaces of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from netlab.net import syscalls
from tests.sandbox import enter

OURS = Path(__file__).resolve().parent.parent / "cni_plugins"
GO = Path("/usr/lib/cni")
PAIRS = {"Go bridge + host-local": ("bridge", "host-local"), "netlab": ("netlab", "netlab-ipam")}
SUBNET = "10.244.{}.0/24"


def call(command: str, container: str, netns: str, config: dict[str, Any]) -> float:
    """One execution; its wall time in seconds."""
    environment = {
        # No version manager's shim for python3 in between, which would be measured with it.
        "PATH": f"{Path(sys.executable).resolve().parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": f"{OURS}:{GO}",
    }
    folder = OURS if config["type"] == "netlab" else GO
    began = time.perf_counter()
    subprocess.run(
        [folder / config["type"]], input=json.dumps(config).encode(), env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds by pair, then by command."""
    pairs = PAIRS if (GO / "bridge").exists() else {"netlab": PAIRS["netlab"]}
    if len(pairs) > 1:
        pairs = {**pairs, "netlab, Go IPAM": ("netlab", "host-local")}
    times: dict[str, dict[str, list[float]]] = {pair: {"ADD": [], "DEL": []} for pair in pairs}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(-1, rounds):  # the first makes bridges and compiled files, and does not count
            for number, (pair, (main, ipam)) in enumerate(pairs.items()):
                config = {
                    "cniVersion": "1.0.0",
                    "name": f"net{number}",
                    "type": main,
                    "bridge": f"br{number}",
                    "isGateway": True,
                    "ipam": {
                        "type": ipam,
                        "dataDir": folder,
                        "ranges": [[{"subnet": SUBNET.format(number)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
                spent = in_a_namespace(config, f"c{turn + 1}")
                for command, seconds in spent.items() if turn >= 0 else ():
                    times[pair][command].append(seconds)
    return {
        pair: {command: statistics.median(values) * 1e3 for command, values in by.items()} for pair, by in times.items()
    }


def in_a_namespace(config: dict[str, Any], container: str) -> dict[str, float]:
    """ADD and DEL of a new network namespace."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.close(read_end)
        os.write(write_end, b".")
        time.sleep(3600)
    os.close(write_end)
    os.read(read_end, 1)
    try:
        return {command: call(command, container, f"/proc/{child}/ns/net", config) for command in ("ADD", "DEL")}
    finally:
        os.close(read_end)
        os.kill(child, 9)
        os.waitpid(child, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    enter()
    medians = measure(options.rounds)
    base = next(iter(medians.values()))
    figures: list[dict[str, Any]] = []
    for pair, by in medians.items():
        row: dict[str, Any] = {"plugins": pair}
        for command, milliseconds in by.items():
            row[f"{command}_ms"] = round(milliseconds, 1)
            row[f"{command}_ratio"] = round(milliseconds / base[command], 2)
        figures.append(row)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for row in figures:
        print(f"{row['plugins']:24}" + "".join(f"{c} {row[f'{c}_ms']:6} ms ({row[f'{c}_ratio']:4})  " for c in base))


if __name__ == "__main__":
    main()
