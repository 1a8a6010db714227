"""Installing the plugins where a runtime looks: executables in a CNI_PATH, a network in its configuration folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from netlab.cni.installation import modules, record
from netlab.cni.installation.executables import executables
from netlab.cni.installation.modules import BUNDLE
from netlab.cni.installation.record import READABLE
from netlab.cni.installation.subnets import refuse_in_use, refuse_overlap, subnets_of
from netlab.cni.plugins.call import agent_socket
from netlab.cni.plugins.resident.agent import dismissed
from netlab.cni.runtime.configurations import read_networks
from netlab.errors import ConflictError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.installation.network import Object

_EXECUTABLE = 0o755


def install_plugins(bin_dir: Path, client: Path | None = None) -> list[Path]:
    """Write the executables of all plugins into a folder, each one atomically; returns their paths.

    They start this interpreter (the virtual environment's own, if there is one) without searching for it, and know this
    installation's folders. The folder is created if needed. If there is a compiled `client` of the resident process
    (client.py), it takes each plugin's name; where no resident process answers, it executes the plugin
    beside it, whose name ends in `.py`. Raises `NetlabError`.
    """
    return _write_all(bin_dir, executables(client))


def install(
    bin_dir: Path,
    conf_dir: Path | None = None,
    network: Object | None = None,
    *,
    client: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """`install_plugins`, and a network's configuration list in `conf_dir`, recorded for `uninstall`; their paths.

    Changes nothing and raises `ConflictError` if a file, or a network of that name, is not as it was installed, if a
    subnet belongs to another network, or if containers would lose theirs, unless `force` is given.
    """
    files = {BUNDLE: modules.compiled(), **executables(client)}
    plugins = [bin_dir / name for name in files]
    configuration = conf_dir / f"10-{network['name']}.conflist" if conf_dir and network else None
    if not force:
        record.refuse_foreign(plugins)
        if configuration and network:
            record.refuse_foreign([configuration])
            _refuse_name(configuration, network["name"])
            given = list(subnets_of(network["plugins"]))
            refuse_overlap(configuration, given)
            refuse_in_use(configuration, given)
    # Recorded before it is written, so that a half-done installation can be removed after a kill.
    record.note(bin_dir, files)
    record.write(bin_dir / BUNDLE, files.pop(BUNDLE), READABLE)
    _write_all(bin_dir, files)
    if configuration is None:
        return plugins
    # Last: a runtime that watches the folder uses the network at once.
    text = (json.dumps(network, indent=2) + "\n").encode()
    record.note(configuration.parent, {configuration.name: text})
    return [*plugins, record.write(configuration, text, READABLE)]


def uninstall(folder: Path) -> tuple[list[Path], list[Path]]:
    """`record.remove`, after which the folder's agent has ended."""
    with contextlib.ExitStack() as agent:
        if folder.exists():
            agent.enter_context(dismissed(agent_socket(str(folder))))
        return record.remove(folder)


def _write_all(bin_dir: Path, executables: Mapping[str, bytes]) -> list[Path]:
    return [record.write(bin_dir / name, content, _EXECUTABLE) for name, content in executables.items()]


def _refuse_name(configuration: Path, name: str) -> None:
    conf_dir = configuration.parent
    networks = read_networks(conf_dir)[0] if conf_dir.is_dir() else []
    for network in networks:
        if network.name == name and network.source != str(configuration):
            raise ConflictError(f"{network.source}: already has a network {name!r}; choose another name or use --force")
