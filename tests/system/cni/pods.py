"""Sandboxes for CNI tests: network namespaces held by a child process, and traffic between them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netlab.cni.plugins import call
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.net import namespaces, syscalls
from netlab.net.addresses import packed, packed_network
from netlab.net.route import addresses as route_addresses
from netlab.net.route import links as route_links
from netlab.net.route import routes
from netlab.net.route.socket import Rtnetlink
from tests import sandbox

PLUGINS = Path(__file__).resolve().parents[3] / "cni_plugins"
GO_PLUGINS = Path("/usr/lib/cni")


@contextlib.contextmanager
def sandboxes(number: int) -> Iterator[list[str]]:
    """Paths of that many new network namespaces."""
    children = [_sandbox() for _ in range(number)]
    try:
        yield [f"/proc/{child}/ns/net" for child in children]
    finally:
        for child in children:
            end(child)


def _sandbox() -> int:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        os.close(read_end)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.write(write_end, b".")
        while True:
            signal.pause()
    os.close(write_end)
    assert os.read(read_end, 1), "the sandbox has died"
    os.close(read_end)
    return child


def end(child: int) -> None:
    """End a sandbox; its namespace goes with it."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def start_resident(said: Path | None = None) -> None:
    """Start the resident process of this isolated test, once; it ends with the test. `said` gets what it says."""
    assert sandbox.entered(), "its socket would be the host's"
    if Path(call.SOCKET).exists():
        return
    syscalls.mount("tmpfs", "/run", "tmpfs")
    if os.fork() == 0:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        if said is not None:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.execv(sys.executable, [sys.executable, "-m", "netlab.cni.plugins.resident.serve"])
    deadline = time.monotonic() + 30
    while not Path(call.SOCKET).exists():
        assert time.monotonic() < deadline, "the resident process does not serve"
        time.sleep(0.01)


def runtime(tmp_path: Path) -> Runtime:
    """A runtime whose calls go in the way that the fixture `way` has chosen."""
    if os.environ.get("NETLAB_TEST_WAY") == "resident" and sandbox.entered():
        start_resident()
    return Runtime([PLUGINS, GO_PLUGINS], tmp_path / "cache")


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    """In a sandbox's namespace for a block."""
    descriptor = os.open(netns, os.O_RDONLY)
    try:
        with namespaces.entered(descriptor):
            yield
    finally:
        os.close(descriptor)


def reaches(client: str | None, server: str, address: str) -> str:
    """Connect from one sandbox (or from the node: None) to another's address by TCP; the client's address as seen."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(server):
        listener = socket.create_server((address, 0), family=family)
    with listener, inside(client) if client else contextlib.nullcontext():
        listener.settimeout(10)
        with socket.create_connection((address, listener.getsockname()[1]), timeout=10):
            accepted, seen = listener.accept()
            accepted.close()
            return str(seen[0])


def execute(
    plugin: str, command: str, config: dict[str, Any] | bytes, *wrapper: str, **variables: str
) -> tuple[int, Any]:
    """Run an executable as a runtime does, behind the command `wrapper`; its exit status, and what it answered."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CNI_COMMAND": command,
        "CNI_PATH": str(PLUGINS),
        **variables,
    }
    done = subprocess.run(
        [*wrapper, PLUGINS / plugin],
        input=config if isinstance(config, bytes) else json.dumps(config).encode(),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    return done.returncode, json.loads(done.stdout) if done.stdout else None


NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}


@contextlib.contextmanager
def outside(*, knows_pods: bool) -> Iterator[str]:
    """A host behind the node's eth0; its namespace. It has the way to the node's pods or only to the node itself."""
    with sandboxes(1) as (world,):
        wire(world)
        set_up(f"{NODE[4]}/24", f"{NODE[6]}/64")
        with inside(world):
            set_up(f"{OUTSIDE[4]}/24", f"{OUTSIDE[6]}/64")
            for subnet, version in (("10.244.0.0/16", 4), ("fd00:10:244::/48", 6)) if knows_pods else ():
                with Rtnetlink() as kernel:
                    index, gateway = kernel.existing("eth0").index, packed(NODE[version])
                    kernel.send(routes.replacement(subnet, *packed_network(subnet), index, [gateway]))
        yield world


def wire(netns: str) -> None:
    """A veth pair from this namespace to another; either end is an eth0."""
    with Path(netns).open("rb") as there, Rtnetlink() as kernel:
        kernel.send(route_links.veth("eth0", 0, "eth0", there.fileno(), mtu=1500))


def set_up(*given: str) -> None:
    """Set lo and eth0 up, and give eth0 addresses."""
    with Rtnetlink() as kernel:
        kernel.set_up("lo")
        link = kernel.set_up("eth0")
        kernel.send(*(route_addresses.addition("eth0", link.index, *packed_network(each)) for each in given))


def version(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def addresses(result: dict[str, Any]) -> list[str]:
    """The addresses of a result, without prefix lengths."""
    return [ip["address"].split("/")[0] for ip in result["ips"]]


def ruleset() -> str:
    """The nftables ruleset of the present namespace."""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def ip(*arguments: str) -> str:
    """What ip(8) prints."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


V4 = [{"subnet": "10.244.1.0/24"}]
V6 = [{"subnet": "fd00:10:244:1::/64"}]
FAMILIES = {"ipv4": [V4], "ipv6": [V6], "dual": [V4, V6]}


def network(data_dir: Path, *, version: str = "1.0.0", ranges: list[Any] | None = None, **more: Any) -> NetworkList:
    """A network as the lab's nodes have it; `more` are keys of the main plugin."""
    plugin = {
        "type": "netlab",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "mtu": 1450,
        "ipam": {"type": "netlab-ipam", "dataDir": str(data_dir), "ranges": ranges or FAMILIES["dual"]},
        **more,
    }
    text = json.dumps({"cniVersion": version, "name": "net", "plugins": [plugin]})
    return parse_network(text.encode(), "test")


def links() -> set[str]:
    """The links of the present namespace."""
    return {name for _, name in socket.if_nameindex()}
