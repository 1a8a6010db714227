"""A scenario on disk: a folder with scenario.yaml, manifests/, checks.py and README.md."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import sys
import traceback
import types
from pathlib import Path
from typing import Any, Literal

import msgspec

from netlab.api.apply import targets_of
from netlab.api.manifests import load_documents
from netlab.counted import counted
from netlab.errors import NotFoundError, UsageError
from netlab.lab.fields import convert
from netlab.lab.paths import scenarios_dir
from netlab.lab.spec import MOST_NODES, LabSpec, Network, ProxyMode
from netlab.net.addresses import Family
from netlab.scenario.checks import Check

Traffic = Literal["intra-pod", "pod-to-pod", "pod-to-service", "external-to-service"]

_FILE = "scenario.yaml"


class Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The contents of scenario.yaml.

    `nodes` is how many the lesson needs at least; `networks`, `proxies` and `families` are those in which it makes
    sense (empty means all).
    """

    name: str
    title: str
    traffic: Traffic
    nodes: int = 1
    networks: tuple[Network, ...] = ()
    proxies: tuple[ProxyMode, ...] = ()
    families: tuple[Family, ...] = ()

    def __post_init__(self) -> None:
        # The Namespace's name, a DNS label, is this name with a suffix from the runner.
        if not (0 < len(self.name) <= 40 and set(self.name) <= _LABEL and self.name[0] != "-" != self.name[-1]):
            raise ValueError(f"name: {self.name!r} is not a DNS label: lower-case letters, digits and '-', up to 40")
        if not self.title.strip():
            raise ValueError("title: a sentence is required")
        if not 1 <= self.nodes <= MOST_NODES:
            raise ValueError(f"nodes: {self.nodes} is not between 1 and {MOST_NODES}")

    def lacking(self, spec: LabSpec, family: Family) -> str:
        """What a lab lacks for a run in the family: `network vxlan, not routed`; empty if it fits."""
        if spec.nodes < self.nodes:
            return f"{counted(self.nodes, 'node')}, not {spec.nodes}"
        for what, wanted, present in (
            ("network", self.networks, spec.network),
            ("proxy", self.proxies, spec.proxy),
            ("family", self.families, family),
        ):
            if wanted and present not in wanted:
                return f"{what} {' or '.join(wanted)}, not {present}"
        return ""


_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A valid scenario."""

    folder: Path
    header: Header
    manifests: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    text: str
    """README.md."""

    @property
    def name(self) -> str:
        """Its name, a DNS label."""
        return self.header.name


def load(folder: Path) -> Scenario:
    """Read a scenario. Raises `UsageError` naming the file and the field or line that is wrong."""
    if not _is_folder(str(folder)):
        raise UsageError(f"{folder}: not a folder")
    header = _header(folder / _FILE)
    return Scenario(folder, header, _manifests(folder), _checks(folder / "checks.py"), _text(folder / "README.md"))


def shipped() -> list[Scenario]:
    """The scenarios that come with netlab, in the order of their folders."""
    return [load(path.parent) for path in sorted(scenarios_dir().glob(f"*/{_FILE}"))]


def find(names: list[str]) -> list[Scenario]:
    """The scenarios given by names, `all`, or paths of folders. Raises `NotFoundError` naming similar ones."""
    known = {scenario.name: scenario for scenario in shipped()}
    found: list[Scenario] = []
    for name in names:
        if name == "all":
            found += known.values()
        elif name in known:
            found.append(known[name])
        elif "/" in name or _is_folder(name):
            found.append(load(Path(name)))
        else:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or [n for n in known if name in n]
            hint = f"did you mean {' or '.join(near)}?" if near else "`netlab scenario list` shows them"
            raise NotFoundError(f"there is no scenario {name!r}: {hint} (a folder of your own is named ./{name})")
    return list({scenario.folder.resolve(): scenario for scenario in found}.values())


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # too long for a file name
        return False


def _header(path: Path) -> Header:
    documents = load_documents([path])
    if len(documents) != 1:
        raise UsageError(f"{path}: expected one document, found {len(documents)}")
    try:
        return convert(documents[0], Header)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _manifests(folder: Path) -> tuple[dict[str, Any], ...]:
    path = folder / "manifests"
    documents = load_documents([path])
    try:
        targets = targets_of(documents, "default")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    for document, target in zip(documents, targets, strict=True):
        if not target.resource.namespaced:
            raise UsageError(f"{path}: {target}: a scenario can only have namespaced objects")
        if document["metadata"].get("namespace"):
            raise UsageError(f"{path}: {target}: metadata.namespace: leave it out; each run has a Namespace of its own")
    return tuple(documents)


def _checks(path: Path) -> tuple[Check, ...]:
    # Not imported: that would leave a __pycache__ in a user's folder. Dataclasses look up a class's module in
    # sys.modules; its name there comes from the folder, so that two scenarios' checks.py are two modules.
    module = types.ModuleType(f"netlab_scenario_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))  # noqa: S102 - the checks are code, by design
    except OSError as error:
        if error.filename == str(path):
            raise UsageError(f"{path}: {error.strerror}; it holds the scenario's checks") from None
        raise UsageError(f"{path}{line_of(error, path)}: {error}") from None
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        raise UsageError(f"{path}{line_of(error, path)}: {type(error).__name__}: {error}") from None
    checks = tuple(value for value in vars(module).values() if isinstance(value, Check))
    if not checks:
        raise UsageError(f"{path}: has no function with @check(...)")
    return checks


def line_of(error: BaseException, path: Path) -> str:
    """`:LINE` of the innermost call in a file that led to an error; empty if there is none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; it explains what the scenario shows") from None
