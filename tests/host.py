"""What netlab must leave as it was: the host's network, seen from outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

_SYSCTLS = ("net/ipv4", "net/ipv6", "net/bridge", "net/netfilter")
_MOVING = {"random", "uuid", "nf_conntrack_count", "mtu_expires"}


def snapshot() -> dict[str, object]:
    """The host's links, addresses, routes, rules, nftables, sysctls and named network namespaces."""
    return {
        "links": [_stable(link) for link in _ip("link")],
        "addresses": [_stable(link) for link in _ip("address")],
        "routes": [_ip("-4", "route", "show", "table", "all"), _ip("-6", "route", "show", "table", "all")],
        "rules": [_ip("-4", "rule"), _ip("-6", "rule")],
        "nftables": _run("nft", "list", "ruleset"),
        "namespaces": sorted(_run("ip", "netns", "list").split("\n")),
        "sysctls": _sysctls(),
    }


def abandoned_cgroups() -> set[str]:
    """The cgroups of labs in which no process is left."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = set()
    for _, mount, kind, *_ in mounts:
        if kind in ("cgroup", "cgroup2"):
            for path in Path(mount).glob("**/netlab-*/"):
                # Labs of other tests come and go meanwhile.
                with contextlib.suppress(OSError):
                    if not any(each.read_text() for each in path.glob("**/cgroup.procs")):
                        found.add(str(path))
    return found


def _run(*argv: str) -> str:
    # An ordinary user may not list the host's tables: that it may not is the same before and after.
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def _ip(*argv: str) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(_run("ip", "-json", *argv) or "[]")
    for entry in listed:
        entry.pop("expires", None)
    return listed


def _stable(link: dict[str, object]) -> dict[str, object]:
    addresses = link.get("addr_info")
    if isinstance(addresses, list):
        for address in addresses:
            for moving in ("valid_life_time", "preferred_life_time"):
                address.pop(moving, None)
    return link


def _sysctls() -> dict[str, str]:
    values = {}
    for area in _SYSCTLS:
        for path in sorted((Path("/proc/sys") / area).rglob("*")):
            if path.name not in _MOVING and path.is_file():
                try:
                    values[str(path)] = path.read_text()
                except OSError:
                    continue
    return values
