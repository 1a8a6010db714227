"""Arrows between rooms point one way: who may import whom, from one table (docs/architecture.md draws it)."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import netlab

PACKAGE = Path(netlab.__file__).parent
PICTURE = Path(__file__).parents[2] / "docs" / "rooms.svg"

GROUND = {"__version__", "backoff", "counted", "descriptors", "errors", "files", "similar", "visible"}
"""Single files that import nothing of netlab but each other, and that every room may import."""

ROOMS = {
    "net": set[str](),
    "oci": set[str](),
    "machine": {"net", "oci"},
    "api": {"net"},
    "capture": {"net"},
    "cni": set[str](),
    "cni.spec": set[str](),
    "cni.plugins": {"cni.spec", "net"},
    "cni.installation": {"cni.plugins", "cni.runtime", "cni.spec", "net"},
    "cni.runtime": {"cni.plugins", "cni.spec", "net"},
    "proxy": {"api", "net"},
    "policy": {"api", "net"},
    "speaker": {"api", "net"},
    "controlplane": {"api", "net"},
    "dns": {"api", "machine", "net"},
    "ingress": {"api", "machine"},
    "node": {"api", "cni.plugins", "cni.runtime", "machine", "net", "oci"},
    "lab": {
        *("api", "capture", "cni.installation", "cni.plugins", "controlplane", "ingress", "machine", "net", "node"),
        *("oci", "policy", "proxy", "speaker"),
    },
    "doctor": {"lab", "machine", "net"},
    "trace": {"api", "capture", "dns", "lab", "net", "policy", "proxy"},
    "scenario": {"api", "capture", "doctor", "lab", "machine", "net"},
    "report": {"capture", "lab", "net", "node", "policy", "scenario", "trace"},
    "cli": {
        *("api", "capture", "cni.installation", "cni.plugins", "cni.runtime", "cni.spec", "doctor", "lab", "machine"),
        *("net", "node", "oci", "policy", "proxy", "report", "scenario", "trace"),
    },
}
"""Each room, and the rooms that it may import from."""


_IMPORTS = re.compile(rb"(?m)^\s*(?:from|import) netlab\b")


def room_of(module: str) -> str:
    """The room of a dotted module name; the module itself if it is on the ground."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] == "cni" else parts[0]


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules of netlab that a file imports, wherever in it."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("netlab."))
        elif isinstance(node, ast.ImportFrom) and node.module == "netlab":
            yield from (f"netlab.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "netlab.cni":
            yield from (f"netlab.cni.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("netlab."):
            assert node.module is not None
            yield node.module


def modules() -> list[tuple[str, Path]]:
    """Each module's dotted name, and its file; packages' faces that import nothing are left out."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        # Every process that collects tests is here: it only looks, and does not parse.
        if _IMPORTS.search(path.read_bytes()):
            found.append((name, path))
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_room_imports_only_from_below(name: str, path: Path) -> None:
    room = room_of(name)
    allowed = ROOMS["cli"] | {"cli"} if room == "__main__" else GROUND if room in GROUND else GROUND | ROOMS[room]
    strays = {other for other in imported(path) if room_of(other) not in allowed | {room}}
    assert not strays, f"{room} may import from {', '.join(sorted(allowed))}"


def test_no_arrow_leads_back() -> None:
    graphlib.TopologicalSorter(ROOMS).prepare()


def test_every_arrow_of_the_table_is_used() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name, path in modules():
        if (room := room_of(name)) in ROOMS:
            used[room] |= {room_of(other) for other in imported(path)} - {room} - GROUND
    assert used == ROOMS


FOR_ALL_OF_A_KUBELET = {"netlab.machine.async_descriptors", "netlab.machine.crilog"}
"""What is not a machine's alone: the rest of `machine` is known to a kubelet's runtimes only."""


def test_a_kubelet_knows_nothing_but_its_runtime() -> None:
    strays = {
        f"{name}: {other}"
        for name, path in modules()
        if name.startswith("netlab.node.") and not name.startswith("netlab.node.runtime.")
        for other in imported(path)
        if room_of(other) == "machine" and other not in FOR_ALL_OF_A_KUBELET
    }
    assert not strays


SERVER = (
    *("refusals", "identity", "objects", "fieldmanager", "storage", "admission", "registry", "rest", "access"),
    *("connect", "usage", "aggregation", "webhooks"),
)
"""The folders of the API server, each of which imports only from those before it. The files beside them may use all."""


@pytest.mark.parametrize("folder", SERVER)
def test_a_folder_of_the_api_server_imports_only_from_below(folder: str) -> None:
    below = SERVER[: SERVER.index(folder) + 1]
    strays = {
        f"{name}: {other}"
        for name, path in modules()
        if name.startswith(f"netlab.api.server.{folder}")
        for other in imported(path)
        if other.startswith("netlab.api.server.") and other.split(".")[3] not in below
    }
    assert not strays


def reached(room: str) -> set[str]:
    """The rooms that arrows lead to from a room, directly or through others."""
    return ROOMS[room].union(*map(reached, ROOMS[room]))


def test_the_picture_shows_the_table() -> None:
    # Without the arrows that others imply, and the package's face of cni.
    wanted = {
        (room, below)
        for room, rooms in ROOMS.items()
        for below in rooms
        if not any(below in reached(other) for other in rooms) and "cni" not in (room, below)
    }
    drawn = re.findall(r'data-from="([^"]+)" data-to="([^"]+)"', PICTURE.read_text(encoding="utf-8"))
    assert sorted(drawn) == sorted(wanted)
