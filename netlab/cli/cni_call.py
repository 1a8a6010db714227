"""What the commands of `netlab cni` share: their parameters, calling a chain, and showing what it did."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.cni_install import BIN_DIR, CONF_DIR
from netlab.cli.output import say, value
from netlab.cli.suggestions import suggest
from netlab.cni.runtime.changes import Change, Line, compare, snapshot, snapshot_of
from netlab.cni.runtime.configurations import find_network, read_networks
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.errors import (
    ChecksFailedError,
    ConflictError,
    ExhaustedError,
    NetlabError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from netlab.visible import visible

if TYPE_CHECKING:
    from netlab.cni.runtime.chain import Runtime
    from netlab.cni.runtime.configurations import NetworkList

_DEBIANS = Path("/usr/lib/cni")
"""Where Debian's package of the reference plugins puts them."""
CACHE_DIR = Path("/var/lib/cni")
"""libcni's, so that what podman or containerd added is known here, and the reverse."""
_NAMED_NETNS = Path("/run/netns")

_STATUS_OF_CODE = {
    errors.INCOMPATIBLE_VERSION: UsageError,
    errors.UNSUPPORTED_FIELD: UsageError,
    errors.UNKNOWN_CONTAINER: NotFoundError,
    errors.INVALID_ENVIRONMENT: UsageError,
    errors.INVALID_CONFIG: UsageError,
    errors.TRY_AGAIN: UnavailableError,
    errors.NOT_AVAILABLE: UnavailableError,
    errors.LIMITED_CONNECTIVITY: UnavailableError,
    errors.ADDRESSES_EXHAUSTED: ExhaustedError,
    errors.ALREADY_RESERVED: ConflictError,
    errors.CHECK_FAILED: ChecksFailedError,
}


def chosen_network(conf_dir: Path, name: str) -> NetworkList:
    """The network of that name in the folder that was given. Raises as `find_network`, with the remedy."""
    with _naming_the_remedy():
        return find_network(conf_dir, name)


def all_networks(conf_dir: Path) -> tuple[list[NetworkList], list[UsageError]]:
    """The networks of the folder that was given. Raises as `read_networks`, with the remedy."""
    with _naming_the_remedy():
        return read_networks(conf_dir)


@contextlib.contextmanager
def _naming_the_remedy() -> Iterator[None]:
    try:
        yield
    except (NotFoundError, UsageError) as error:
        raise type(error)(
            f"{error}; name another folder with --conf-dir DIR (or NETCONFPATH), or make one: netlab cni install "
            "--conf-dir DIR"
        ) from None


def _networks(ctx: click.Context) -> list[str]:
    networks, _ = read_networks(ctx.params.get("conf_dir") or _default_conf_dir())
    return sorted({network.name for network in networks})


def _namespaces(_: click.Context) -> list[str]:
    return sorted(path.name for path in _NAMED_NETNS.iterdir())


def _netns_path(ctx: click.Context, param: click.Parameter, text: str) -> str:
    return text if "/" in text else str(_NAMED_NETNS / text)


def _default_conf_dir() -> Path:
    return Path(os.environ.get("NETCONFPATH") or CONF_DIR)


network_argument = click.argument("network", shell_complete=suggest(_networks))
optional_network_argument = click.argument("network", shell_complete=suggest(_networks), required=False)
netns_argument = click.argument("netns", callback=_netns_path, shell_complete=suggest(_namespaces))
conf_dir_option = click.option(
    "--conf-dir",
    type=click.Path(path_type=Path),
    envvar="NETCONFPATH",
    default=CONF_DIR,
    show_default=True,
    show_envvar=True,
    help="The folder of network configurations.",
)
bin_dir_option = click.option(
    "--bin-dir",
    "bin_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    envvar="CNI_PATH",
    show_envvar=True,
    help=f"A folder of plugins; repeatable.  [default: netlab's own, {BIN_DIR}, {_DEBIANS}]",
)
cache_dir_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default=CACHE_DIR,
    show_default=True,
    help="Where the results of adds are stored.",
)


def interface_options(command: Any) -> Any:
    """The parameters of `Call` besides a network and a namespace."""
    for option in (
        click.option(
            "--capability-args",
            metavar="JSON",
            default="{}",
            help='For runtimeConfig, for example {"portMappings": [...]}.',
        ),
        click.option("--args", "pairs", metavar="KEY=VALUE", multiple=True, help="For CNI_ARGS; repeatable."),
        click.option("--container-id", help="The container's name.  [default: derived from NETNS]"),
        click.option("--ifname", default="eth0", show_default=True, help="The interface in the container."),
        cache_dir_option,
        bin_dir_option,
        conf_dir_option,
    ):
        command = option(command)
    return command


class Call:
    """The subject of one call from the command line."""

    def __init__(
        self,
        network: str,
        netns: str,
        *,
        conf_dir: Path,
        bin_dirs: tuple[Path, ...],
        cache_dir: Path,
        ifname: str,
        container_id: str | None,
        pairs: tuple[str, ...],
        capability_args: str,
    ) -> None:
        from netlab.cni.runtime.attachments import Attachment

        self.network = chosen_network(conf_dir, network)
        self.runtime = runtime_of(bin_dirs, cache_dir)
        self.attachment = Attachment(
            container_id or netns.strip("/").replace("/", "-"), netns, ifname, _args(pairs), _object(capability_args)
        )
        with exit_status():
            self.attachment.check()


def runtime_of(bin_dirs: tuple[Path, ...], cache_dir: Path) -> Runtime:
    """The runtime with these plugins, or netlab's own and the host's if none are given."""
    from netlab.cni.runtime.chain import Runtime
    from netlab.lab.paths import cni_plugin_dir

    return Runtime(bin_dirs or (cni_plugin_dir(), BIN_DIR, _DEBIANS), cache_dir)


def _args(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals or ";" in pair:
            raise UsageError(f"--args {pair}: must be KEY=VALUE without ';'")
        found[key] = text
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--capability-args {text}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"--capability-args {text}: must be an object")
    return found


@contextlib.contextmanager
def exit_status() -> Iterator[None]:
    """Give a plugin's error the exit status of its kind."""
    try:
        yield
    except CniError as error:
        error.exit_status = _STATUS_OF_CODE.get(error.code, NetlabError).exit_status
        raise


@contextlib.contextmanager
def watched(call: Call, output: str | None) -> Iterator[dict[str, Any]]:
    """Show what the block did: the result that it puts into the dictionary, and what changed in the kernel."""
    watch = Watch(call.network, call.attachment.netns)
    shown: dict[str, Any] = {}
    try:
        with exit_status():
            yield shown
    except CniError:
        # A failed add leaves nothing behind: if it does, this shows it.
        watch.print(err=True)
        raise
    if output:
        value(shown | watch.values(), output)
        return
    if shown:
        value(shown["result"], "json")
    watch.print()


class Watch:
    """What changes in the kernel from now on, on the node and in the container, if one is given."""

    def __init__(self, network: NetworkList, netns: str = "") -> None:
        from netlab.cni.plugins.ipam.store import DATA_DIR

        plugins = [plugin.get("ipam") for plugin in network.plugins]
        chosen = [ipam["dataDir"] for ipam in plugins if isinstance(ipam, dict) and ipam.get("dataDir")]
        self._data_dir = Path(str(chosen[0]) if chosen else DATA_DIR)
        self._netns = netns
        self._before = self._look()

    def values(self) -> dict[str, list[dict[str, str]]]:
        """The changes at each place, as plain values."""
        return {
            place: [{"change": change.sign, "kind": change.line.kind, "what": change.line.text} for change in changes]
            for place, changes in self._changes().items()
        }

    def print(self, *, err: bool = False) -> None:
        """Write the changes as a difference."""
        for place, changes in self._changes().items():
            if changes:
                click.echo(f"\n{visible(place)}:", err=err)
            for change in changes:
                say(f"{change.sign} {change.line.kind:<11} {change.line.text}", err=err)

    def _look(self) -> dict[str, list[Line]]:
        places = {"node": snapshot(self._data_dir)}
        return places | ({"container": snapshot_of(self._netns)} if self._netns else {})

    def _changes(self) -> dict[str, list[Change]]:
        after = self._look()
        return {place: compare(before, after[place]) for place, before in self._before.items()}
