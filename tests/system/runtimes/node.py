"""What a node has whatever its container engine: the installed plugins, a world outside, and what must not be left."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.system.cni import pods
from tests.system.runtimes.machine import run

NETWORK = "pods"
SUBNETS = ("10.22.0.0/24", "fd00:22::/64")
BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")
NODE = "192.0.2.1"
"""The node's address towards the outside."""
NODE6 = "2001:db8::1"


def install_plugins() -> None:
    """Install the plugins and a network, as an administrator does."""
    subnets = [f"--subnet={subnet}" for subnet in SUBNETS]
    netlab("cni", "install", "--bin-dir", BIN_DIR, "--conf-dir", CONF_DIR, "--network", NETWORK, *subnets)


def netlab(*argv: str | Path) -> str:
    """Call our own command line; what it printed."""
    return run(sys.executable, "-m", "netlab", *argv)


@contextlib.contextmanager
def outside() -> Iterator[str]:
    """The path of a network namespace outside of the node, joined to it by a wire."""
    with pods.sandboxes(1) as (world,):
        run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", world)
        for address in (f"{NODE}/24", f"{NODE6}/64"):
            run("ip", "address", "add", address, "dev", "uplink", *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", "uplink", "up")
        with pods.inside(world):
            for address in ("192.0.2.2/24", "2001:db8::2/64"):
                run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
            run("ip", "link", "set", "eth0", "up")
        try:
            yield world
        finally:
            run("ip", "link", "delete", "uplink")  # at once; its namespace takes its time


def fetch(netns: str | None, address: str, port: int) -> str:
    """The page at / of an HTTP server, asked for from a network namespace (None: the node's own)."""
    with pods.inside(netns) if netns else contextlib.nullcontext():
        connection = http.client.HTTPConnection(address, port, timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def until_served(address: str) -> None:
    """Wait until a container that was just started listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            fetch(None, address, 80)
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not serve"
            time.sleep(0.05)
        else:
            return


def addresses() -> dict[str, list[str]]:
    """The containers' addresses by container id, IPv4 first, from the engine's own record of the results."""
    found = {}
    for path in Path("/var/lib/cni/results").glob(f"{NETWORK}-*"):
        entry = json.loads(path.read_text())
        found[entry["containerId"]] = [ip["address"].split("/")[0] for ip in entry["result"]["ips"]]
    return found


def remains() -> dict[str, list[str]]:
    """All that attachments of containers have left on the node; nothing but empty lists after the last."""
    links = json.loads(run("ip", "-json", "-details", "link"))
    ruleset = run("nft", "list", "ruleset")
    reservations = Path("/var/lib/cni/netlab", NETWORK)
    return {
        "links": [link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") in {"veth", "ifb"}],
        "elements": re.findall(rf'comment "({NETWORK}/[^"]*)"', ruleset),
        "reservations": [path.name for path in reservations.glob("*") if path.name.startswith(("10.", "fd"))],
        "results": [path.name for path in Path("/var/lib/cni/results").glob("*")],
    }


def clean() -> bool:
    """Whether nothing is left of any container."""
    return not any(remains().values())


def busy() -> bool:
    """Whether every kind of remains is there: what `clean` looks for is what there would be."""
    return all(kind for what, kind in remains().items())


def started(*argv: str | Path) -> subprocess.Popen[bytes]:
    """Start a server, which ends with the machine."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
