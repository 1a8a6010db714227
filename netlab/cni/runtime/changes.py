"""What a plugin changed: the difference between two snapshots of the kernel's network state and the reservations.

A snapshot is made of lines as the usual programs print them: ip(8), tc(8), nft(8), sysctl(8).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netlab.cni.plugins.ipam import listing
from netlab.net import namespaces

KINDS = ("link", "address", "route", "neighbour", "qdisc", "nft", "sysctl", "reservation")

_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
)
_SYSCTLS_OF_LINKS = {
    "ipv4": ("forwarding", "route_localnet", "rp_filter", "proxy_arp", "arp_notify"),
    "ipv6": ("forwarding", "accept_dad", "accept_ra", "disable_ipv6", "addr_gen_mode"),
}
# What no plugin decides, or what changes on its own.
_NOISE = re.compile(
    r" mode DEFAULT| group default| qlen \d+| brd ff:ff:ff:ff:ff:ff| pref medium| valid_lft \S+ preferred_lft \S+"
    r"| expires \S+| refcnt \d+| linkdown| dead| tentative"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One item in the kernel or on disk: its kind (one of `KINDS`) and its text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """A line that was added (`+`) or removed (`-`)."""

    sign: str
    line: Line


def compare(before: list[Line], after: list[Line]) -> list[Change]:
    """What was removed and added, by kind. An item that changed appears twice: removed, then added."""
    old, new = set(before), set(after)
    lost = [line for line in before if line not in new]
    gained = [line for line in after if line not in old]
    changes = []
    for kind in KINDS:
        rest = [line for line in gained if line.kind == kind]
        for line in lost:
            if line.kind != kind:
                continue
            changes.append(Change("-", line))
            successor = next((one for one in rest if _subject(one) == _subject(line)), None)
            if successor:
                rest.remove(successor)
                changes.append(Change("+", successor))
        changes += [Change("+", line) for line in rest]
    return changes


def _subject(line: Line) -> str:
    """What a line is about: a link or a sysctl keeps its name when it changes."""
    return line.text.split()[0] if line.kind in {"link", "sysctl"} else line.text


def snapshot(data_dir: Path | None = None) -> list[Line]:
    """The current network namespace, and the `netlab-ipam` reservations in a folder if one is given.

    Leaves out what cannot be read because a program or a permission is missing.
    """
    lines = [Line("link", text) for text in read_numbered(_run("ip", "-o", "link"))]
    lines += [Line("address", text) for text in read_numbered(_run("ip", "-o", "address"))]
    for family in ("-4", "-6"):
        # The local table follows from the addresses.
        routes = (
            text for text in _clean(_run("ip", family, "route", "show", "table", "all")) if "table local" not in text
        )
        lines += [Line("route", text) for text in routes]
    lines += [Line("neighbour", text) for text in _clean(_run("ip", "neighbour", "show", "nud", "permanent"))]
    qdiscs = (text.removeprefix("qdisc ") for text in _clean(_run("tc", "qdisc", "show")))
    lines += [Line("qdisc", text) for text in qdiscs if not text.startswith("noqueue")]
    lines += [Line("nft", text) for text in read_ruleset(_run("nft", "-s", "list", "ruleset"))]
    lines += [Line("sysctl", text) for text in _sysctls()]
    if data_dir:
        lines += [Line("reservation", text) for text in _reservations(data_dir)]
    return lines


def snapshot_of(netns: str) -> list[Line]:
    """A snapshot of the network namespace at that path; empty if there is none."""
    try:
        descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        with contextlib.suppress(OSError), namespaces.entered(descriptor):
            return snapshot()
    finally:
        os.close(descriptor)
    return []


def read_numbered(text: str) -> list[str]:
    """The lines of `ip -o link` or `ip -o address` without their numbers: each begins with the link's name."""
    return [line.partition(": ")[2] for line in _clean(text)]


def _clean(text: str) -> list[str]:
    return [" ".join(_NOISE.sub("", line.replace("\\", " ")).split()) for line in text.splitlines() if line.strip()]


def read_ruleset(text: str) -> list[str]:
    """The lines of `nft list ruleset`, each preceded by the names of its table and its chain, set or map; one line for
    each element of a set or map.
    """
    path: list[str] = []
    found: list[str] = []
    said = 0
    lines = iter(text.splitlines())
    for line in map(str.strip, lines):
        if line.startswith("elements = {"):
            elements = line
            while not elements.endswith("}"):
                elements += " " + next(lines, "}").strip()
            inner = elements.removeprefix("elements = {").removesuffix("}")
            found += [" ".join([*path, "element", each]) for each in _split(inner)]
        elif line.endswith("{"):
            path.append(line.removesuffix("{").removeprefix("table ").strip())
            said = len(found)
        elif line == "}":
            if len(found) == said:  # an empty one exists too
                found.append(" ".join(path))
            path.pop()
        elif line:
            found.append(" ".join([*path, line]))
    return found


def _split(elements: str) -> list[str]:
    """Elements split at commas, except commas in a comment."""
    return [" ".join(each.split()) for each in re.findall(r'(?:[^,"]|"[^"]*")+', elements) if each.strip()]


def _run(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout
    except OSError:
        return ""


def _sysctls() -> Iterator[str]:
    for name in _SYSCTLS:
        value = _read(name)
        if value:
            yield f"{name.replace('/', '.')} = {value}"
    for family, names in _SYSCTLS_OF_LINKS.items():
        conf = Path("/proc/sys/net") / family / "conf"
        for link in sorted(set(_names(conf)) - {"all", "default"}):
            for name in names:
                value = _read(f"net/{family}/conf/{link}/{name}")
                # A link starts with the default's values: only what differs was set by someone.
                if value and value != _read(f"net/{family}/conf/default/{name}"):
                    yield f"net.{family}.conf.{link}.{name} = {value}"


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _read(sysctl: str) -> str:
    try:
        return (Path("/proc/sys") / sysctl).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _reservations(data_dir: Path) -> list[str]:
    try:
        networks = listing.networks(data_dir)
    except OSError:
        return []
    return [
        f"{one.address} of network {network.name} for {one.container_id}/{one.ifname}"
        for network in networks
        for one in network.reservations
    ]
