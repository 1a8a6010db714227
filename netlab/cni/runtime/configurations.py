"""Network configurations as a runtime reads them from a folder such as /etc/cni/net.d: SPEC.md, section 1."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab.cni.spec.names import is_identifier
from netlab.errors import NotFoundError, UsageError

_NEWEST = (1, 1, 0)
"""The newest version of the specification that `netlab.cni.runtime.chain` follows."""
_SUFFIXES = {".conflist", ".conf", ".json"}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One network: its name, its version of CNI and its chain of at least one plugin configuration.

    `source` is the path of its file, and `text` the file's content, which caches keep beside a result.
    """

    name: str
    cni_version: str
    plugins: tuple[Object, ...]
    disable_check: bool = False
    disable_gc: bool = False
    source: str = field(default="", compare=False)
    text: bytes = field(default=b"", compare=False, repr=False)

    def since(self, *version: int) -> bool:
        """Whether it has this version of CNI or a newer one."""
        return _number(self.cni_version) >= version


def load_network(conf_dir: Path) -> NetworkList:
    """The network of a folder's first configuration in lexical order: a kubelet's pod network. Raises `UsageError`."""
    path = next(_files(conf_dir), None)
    if path is None:
        raise UsageError(f"{conf_dir}: no network is configured; put a *.conflist there")
    return read_network(path)


def find_network(conf_dir: Path, name: str) -> NetworkList:
    """The network of that name in a folder; other networks' broken files do not hide it.

    Raises `NotFoundError` if there is none, and `UsageError`.
    """
    networks, broken = read_networks(conf_dir)
    for network in networks:
        if network.name == name:
            return network
    names = ", ".join(sorted({network.name for network in networks})) or "none"
    unread = "".join(f"; not read: {error}" for error in broken)
    raise NotFoundError(f"{conf_dir}: no network {name!r}; there are: {names}{unread}")


def read_networks(conf_dir: Path) -> tuple[list[NetworkList], list[UsageError]]:
    """The networks of a folder in lexical order of their files, and what is wrong with the invalid files.

    Raises `UsageError` if the folder cannot be read.
    """
    networks, broken = [], []
    for path in _files(conf_dir):
        try:
            networks.append(read_network(path))
        except UsageError as error:
            broken.append(error)
    return networks, broken


def read_network(path: Path) -> NetworkList:
    """The network of one file. Raises `UsageError`."""
    try:
        return parse_network(path.read_bytes(), str(path), path.parent)
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from error


def _files(conf_dir: Path) -> Iterator[Path]:
    try:
        paths = sorted(conf_dir.iterdir())
    except OSError as error:
        raise UsageError(f"{conf_dir}: {error.strerror}; no network is configured") from error
    return (path for path in paths if path.suffix in _SUFFIXES)


def parse_network(text: bytes, source: str, folder: Path | None = None) -> NetworkList:
    """Read a network's configuration: a list of plugins, or (a `.conf`) a single one.

    The plugins of a list may also be separate files in a folder named after the network, beside `source` (in `folder`).
    Errors name `source`. Raises `UsageError`, and `OSError` for a file in that folder.
    """
    config = _object(text, source)
    name = config.get("name")
    if not isinstance(name, str) or not is_identifier(name):
        raise UsageError(f"{source}: name: {name!r} must be letters, digits, '_', '.' and '-'")
    inlined = config.get("plugins", [config] if "type" in config else [])
    if not isinstance(inlined, list):
        raise UsageError(f"{source}: plugins: must be a list of at least one plugin")
    plugins = [(f"{source}: plugins[{position}]", plugin) for position, plugin in enumerate(inlined)]
    # A runtime may not add plugins if `loadOnlyInlinedPlugins` is set, nor to the single plugin of a `.conf`.
    if folder and not _flag(config, "loadOnlyInlinedPlugins", source) and "type" not in config:
        paths = sorted(path for path in (folder / name).glob("*.conf") if path.is_file())
        plugins += [(str(path), _object(path.read_bytes(), str(path))) for path in paths]
    if not plugins:
        raise UsageError(f"{source}: plugins: must be a list of at least one plugin")
    for where, plugin in plugins:
        _check_plugin(where, plugin)
    return NetworkList(
        name,
        _version(config, source),
        tuple(plugin for _, plugin in plugins),
        disable_check=_flag(config, "disableCheck", source),
        disable_gc=_flag(config, "disableGC", source),
        source=source,
        text=text,
    )


def _object(text: bytes, source: str) -> Object:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{source}: must be an object")
    return config


def _check_plugin(where: str, plugin: Any) -> None:
    kind = plugin.get("type") if isinstance(plugin, dict) else None
    if not isinstance(kind, str) or not kind.isprintable() or "/" in kind or kind in {"", ".", ".."}:
        raise UsageError(f"{where}.type: {kind!r} must be the name of an executable")
    capabilities = plugin.get("capabilities")
    if capabilities is not None and not isinstance(capabilities, dict):
        raise UsageError(f"{where}.capabilities: {capabilities!r} must be an object of true and false")


def _version(config: Object, source: str) -> str:
    """The highest of the network's versions that this runtime knows: SPEC.md 1.1.0, section 1, "Version selection"."""
    given = config.get("cniVersions", [])
    if not isinstance(given, list):
        raise UsageError(f"{source}: cniVersions: must be a list of versions")
    versions = [("cniVersion", config.get("cniVersion", "0.1.0"))]
    versions += [(f"cniVersions[{position}]", version) for position, version in enumerate(given)]
    for key, version in versions:
        if not isinstance(version, str) or not re.fullmatch(r"\d{1,9}(\.\d{1,9}){2}", version, re.ASCII):
            raise UsageError(f"{source}: {key}: {version!r} must look like '1.0.0'")
    known = [version for _, version in versions if _number(version) <= _NEWEST]
    chosen: str = max(known, key=_number) if known else versions[0][1]
    return chosen


def _flag(config: Object, key: str, source: str) -> bool:
    value = config.get(key, False)
    if isinstance(value, str):  # libcni accepts it too
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise UsageError(f"{source}: {key}: {value!r} must be true or false")
    return value


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
