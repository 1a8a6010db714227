"""An ADD that fails, or is killed, anywhere: all that it made is gone, at once or after the DEL that follows."""

from __future__ import annotations

import builtins
import concurrent.futures
import fcntl
import itertools
import json
import os
import posix
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from netlab.cni.plugins import answer as answering
from netlab.cni.plugins import nft
from netlab.cni.plugins.main.commands import HANDLERS
from netlab.net.netlink import Netlink
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.route.addresses import addresses_of
from netlab.net.route.links import IFF_PROMISC, IFF_UP
from netlab.net.route.routes import routes_of
from netlab.net.route.socket import Rtnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import PLUGINS, inside, runtime, sandboxes

MODES: dict[str, dict[str, Any]] = {
    "bridge": {"ipMasq": True, "macspoofchk": True, "portIsolation": True},
    "routed": {"mode": "routed", "ipMasq": True},
}
ASKED = [
    (Netlink, "send"),
    (Netlink, "ask"),
    (Nfnetlink, "commit"),
    (Nfnetlink, "elements"),
    (nft, "nft"),
]
"""What is answered in a second step, so that it may be done and yet fail."""
CALLED = [
    (builtins, "open"),
    (fcntl, "flock"),
    *(
        (posix, name)
        for name in ("open", "read", "pwrite", "symlink", "readlink", "lstat", "mkdir", "unlink", "replace")
    ),
]
"""System calls. Not wrapped: what gives up (close), and what returns home (setns)."""


ASKED_FLAGS = IFF_UP | IFF_PROMISC
LINK_LOCAL = b"\xfe\x80"
RT_TABLE_LOCAL = 255


class Faults:
    """Makes the n-th of all operations fail, before or after it was done."""

    def __init__(self) -> None:
        self.remaining = 0
        self.after = False
        self.struck = ""
        for owner, name in ASKED:
            setattr(owner, name, self._wrap(name, getattr(owner, name), answered=True))
        for owner, name in CALLED:
            setattr(owner, name, self._wrap(name, getattr(owner, name), answered=False))

    def strike(self, number: int, *, after: bool) -> None:
        self.remaining, self.after, self.struck = number, after, ""

    def _wrap(self, name: str, operation: Callable[..., Any], *, answered: bool) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.remaining -= 1
            if self.remaining != 0:
                return operation(*args, **options)
            self.struck = name
            if self.after and answered:
                operation(*args, **options)
            raise OSError(5, "Input/output error", f"the fault in {name}")

        return wrapped


def config(data_dir: Path, mode: str) -> dict[str, Any]:
    routes = [{"dst": "192.0.2.0/24"}]
    net = pods.network(data_dir, version="1.1.0", **MODES[mode])
    ipam = {**net.plugins[0]["ipam"], "routes": routes}
    return {**net.plugins[0], "ipam": ipam, "name": "net", "cniVersion": "1.1.0"}


def environment(command: str, container_id: str, netns: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS),
    }


def answer(command: str, container_id: str, netns: str, given: dict[str, Any]) -> tuple[int, Any]:
    text = json.dumps(given).encode()
    status, output = answering.answer(HANDLERS, environment(command, container_id, netns), lambda: text)
    return status, json.loads(output) if output else None


def state(data_dir: Path, *namespaces: str) -> Any:
    """All that an ADD may change, here and in the containers."""
    return (
        _kernel(),
        [_in(path) for path in namespaces],
        subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout,
        sorted(str(path.relative_to(data_dir)) for path in data_dir.rglob("*")),
        [
            Path("/proc/sys/net", name).read_text()
            for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/rp_filter")
        ],
    )


def _in(path: str) -> Any:
    with inside(path):
        return _kernel()


def _kernel() -> Any:
    """What was asked for; not what the kernel derives of it when a carrier comes, up to a second later (linkwatch)."""
    with Rtnetlink() as kernel:
        links = kernel.links()
        names = {link.index: link.name for link in links}
        return (
            sorted(
                (one.name, one.kind, one.flags & ASKED_FLAGS, one.mac, one.mtu, one.master, one.alias) for one in links
            ),
            sorted(
                (names[it.index], it.packed, it.length)
                for one in links
                for it in addresses_of(kernel, one.index)
                if it.packed[:2] != LINK_LOCAL
            ),
            sorted(
                (names.get(route.index, ""), route.packed, route.length, route.table, route.gateway, route.type)
                for family in (AF_INET, AF_INET6)
                for route in routes_of(kernel, family)
                if route.table != RT_TABLE_LOCAL and route.packed[:2] != LINK_LOCAL
            ),
        )


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it was done"])
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_an_add_that_fails_at_any_step_leaves_nothing(tmp_path: Path, mode: str, after: bool) -> None:
    given = config(tmp_path, mode)
    struck: set[str] = set()
    with sandboxes(2) as (one, two):
        assert answer("ADD", "one", one, given)[0] == 0
        before = state(tmp_path, one, two)
        faults = Faults()
        for number in itertools.count(1):
            faults.strike(number, after=after)
            status, said = answer("ADD", "two", two, given)
            name = faults.struck
            faults.strike(0, after=after)
            if not name:
                assert status == 0
                break
            struck.add(name)
            if status == 0:  # what failed was not needed
                answer("DEL", "two", two, given)
            else:
                assert "Input/output error" in said["msg"], (number, name, said)
            assert state(tmp_path, one, two) == before, (number, name)
            assert answer("DEL", "two", two, given) == (0, None)
            assert state(tmp_path, one, two) == before, (number, name)
        assert struck >= {"send", "commit", "symlink", "ask", "flock", "open"}
        assert answer("DEL", "two", two, given) == (0, None)
        assert state(tmp_path, one, two) == before


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it was done"])
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_on_a_fresh_node_the_bridge_goes_too(tmp_path: Path, mode: str, after: bool) -> None:
    """The tables of nftables stay: they are empty, and another ADD may rely on them already."""
    given = config(tmp_path, mode)
    faults = Faults()
    with sandboxes(1) as (one,):
        empty = _in(one)
        for number in itertools.count(1):
            faults.strike(number, after=after)
            status, _ = answer("ADD", "one", one, given)
            name = faults.struck
            faults.strike(0, after=after)
            if not name:
                assert status == 0
                break
            if status == 0:
                answer("DEL", "one", one, given)
            assert pods.links() <= {"lo", *(["cni0"] if status == 0 else [])}, (number, name)
            assert _in(one) == empty, (number, name)
            assert "elements" not in pods.ruleset(), (number, name)
            assert not [path for path in (tmp_path / "net").glob("**/*") if path.is_symlink()], (number, name)
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            if "cni0" in pods.links():
                pods.ip("link", "del", "cni0")


@pytest.mark.usefixtures("way")
@isolated
def test_a_failure_takes_no_bridge_away_on_which_another_add_relies(tmp_path: Path) -> None:
    runtime(tmp_path / "runtime")
    given = config(tmp_path / "data", "bridge")
    wrong = {**given, "name": "wrong", "ipam": {"type": "netlab-ipam", "dataDir": str(tmp_path / "data")}}
    wrong["ipam"]["ranges"] = [[{"subnet": "10.244.1.0/29", "gateway": "10.244.1.2"}]]  # not the bridge's address
    with sandboxes(8) as paths, concurrent.futures.ThreadPoolExecutor(8) as pool:

        def add(number: int) -> int:
            chosen = wrong if number % 2 else given
            return pods.execute("netlab", "ADD", chosen, **environment("ADD", f"c{number}", paths[number]))[0]

        for _ in range(5):
            statuses = list(pool.map(add, range(8)))
            # Whoever is first gives the bridge its address.
            assert set(statuses[::2]) | set(statuses[1::2]) <= {0, 1}
            assert 0 in statuses
            with Rtnetlink() as kernel:
                links = kernel.links()
            bridge = next(link.index for link in links if link.name == "cni0")
            assert [link.master for link in links if link.kind == "veth"] == [bridge] * statuses.count(0)
            for number in range(8):
                chosen = wrong if number % 2 else given
                environment_ = environment("DEL", f"c{number}", paths[number])
                assert pods.execute("netlab", "DEL", chosen, **environment_) == (0, None)
            pods.ip("link", "del", "cni0")


@pytest.mark.parametrize("step", range(1, 60, 2))
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_a_delete_that_fails_at_any_step_is_done_by_the_next(tmp_path: Path, mode: str, step: int) -> None:
    given = config(tmp_path, mode)
    with sandboxes(2) as (one, two):
        assert answer("ADD", "one", one, given)[0] == 0
        before = state(tmp_path, one, two)
        assert answer("ADD", "two", two, given)[0] == 0
        faults = Faults()
        faults.strike(step, after=bool(step % 4 == 1))
        status, _ = answer("DEL", "two", two, given)
        if not faults.struck:
            assert status == 0
        faults.strike(0, after=False)
        assert answer("DEL", "two", two, given) == (0, None)
        assert state(tmp_path, one, two) == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_an_add_that_is_killed_is_undone_by_a_delete(tmp_path: Path, mode: str) -> None:
    runtime(tmp_path / "runtime")
    data_dir = tmp_path / "data"
    given = config(data_dir, mode)
    variables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with sandboxes(2) as (one, two):
        assert pods.execute("netlab", "ADD", given, **environment("ADD", "one", one))[0] == 0
        before = state(data_dir, one, two)
        for number in range(40):
            process = subprocess.Popen(
                [PLUGINS / "netlab"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=variables | environment("ADD", "two", two),
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(given).encode())
            process.stdin.close()
            time.sleep(number * 0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
            # A resident process goes on for a while, and then undoes what nobody waits for any more.
            deadline = time.monotonic() + 20
            while True:
                for _ in range(2):
                    assert pods.execute("netlab", "DEL", given, **environment("DEL", "two", "")) == (0, None)
                is_undone = state(data_dir, one, two) == before
                if is_undone or time.monotonic() > deadline:
                    break
            assert is_undone, number
