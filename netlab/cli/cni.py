"""netlab cni: the runtime's side of CNI for people."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.cni_install import BIN_DIR, CONF_DIR, install, uninstall
from netlab.cli.options import output_option
from netlab.cli.output import table, value
from netlab.cni import errors
from netlab.cni.errors import CniError
from netlab.cni.networks import find_network, read_networks
from netlab.errors import (
    ChecksFailedError,
    ConflictError,
    ExhaustedError,
    NetlabError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from netlab.cni.changes import Change, Line
    from netlab.cni.networks import NetworkList
    from netlab.cni.runtime import Runtime

_CACHE_DIR = Path("/var/lib/cni")
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


class _NetworkType(click.ParamType[str]):
    name = "NETWORK"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        networks: list[NetworkList] = []
        with contextlib.suppress(NetlabError):
            networks, _ = read_networks(ctx.params.get("conf_dir") or _default_conf_dir())
        names = sorted({network.name for network in networks})
        return [click.shell_completion.CompletionItem(name) for name in names if name.startswith(incomplete)]


class _NetnsType(click.ParamType[str]):
    name = "NETNS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        return text if "/" in text else str(_NAMED_NETNS / text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(path.name for path in _NAMED_NETNS.iterdir())
        return [click.shell_completion.CompletionItem(name) for name in names if name.startswith(incomplete)]


def _default_conf_dir() -> Path:
    return Path(os.environ.get("NETCONFPATH") or CONF_DIR)


_NETWORK = click.argument("network", type=_NetworkType())
_NETNS = click.argument("netns", type=_NetnsType())
_CONFIGURED = click.option(
    "--conf-dir",
    type=click.Path(path_type=Path),
    envvar="NETCONFPATH",
    default=CONF_DIR,
    show_default=True,
    show_envvar=True,
    help="The folder of network configurations.",
)
_EXECUTABLES = click.option(
    "--bin-dir",
    "bin_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    envvar="CNI_PATH",
    show_envvar=True,
    help=f"A folder of plugins, repeatable.  [default: netlab's own, then {BIN_DIR}]",
)
_CACHE = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default=_CACHE_DIR,
    show_default=True,
    help="Where the results of adds are kept.",
)


def _interface_options(command: Any) -> Any:
    for option in (
        click.option(
            "--capability-args",
            metavar="JSON",
            default="{}",
            help='For runtimeConfig, such as {"portMappings": [...]}.',
        ),
        click.option("--args", "pairs", metavar="KEY=VALUE", multiple=True, help="For CNI_ARGS, repeatable."),
        click.option("--container-id", help="The container's name.  [default: made of NETNS]"),
        click.option("--ifname", default="eth0", show_default=True, help="The interface in the container."),
        _CACHE,
        _EXECUTABLES,
        _CONFIGURED,
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cni() -> None:
    """Call CNI plugins by hand, as a container runtime does, and see what the kernel gained.

    \b
    netlab cni install --conf-dir /etc/cni/net.d      the plugins, and a network that works
    ip netns add demo
    netlab cni add netlab demo                        NETNS is a name of ip-netns(8), or a path
    netlab cni check netlab demo
    netlab cni del netlab demo
    """


@cni.command()
@_NETWORK
@_NETNS
@_interface_options
@output_option("json", "yaml")
def add(network: str, netns: str, output: str | None, **given: Any) -> None:
    """Add a namespace to a network.

    Shows the plugins' result, and what the kernel gained on the node and in the namespace.
    """
    call = _Call(network, netns, **given)
    if not Path(netns).exists():
        raise NotFoundError(f"network namespace {netns}: there is none; make it by: ip netns add {Path(netns).name}")
    with _watched(call, output) as shown:
        shown["result"] = call.runtime.add(call.network, call.attachment)


@cni.command("del")
@_NETWORK
@_NETNS
@_interface_options
@output_option("json", "yaml")
def delete(network: str, netns: str, output: str | None, **given: Any) -> None:
    """Remove a namespace from a network.

    Shows what the kernel lost. It succeeds also where the namespace was never added, or is gone.
    """
    call = _Call(network, netns, **given)
    with _watched(call, output):
        call.runtime.delete(call.network, call.attachment)


@cni.command()
@_NETWORK
@_NETNS
@_interface_options
def check(network: str, netns: str, **given: Any) -> None:
    """See whether all that was added still stands.

    Exit status 9, naming what is broken, when it does not.
    """
    call = _Call(network, netns, **given)
    with _exit_status():
        call.runtime.check(call.network, call.attachment)
    attachment = call.attachment
    skipped = " (disableCheck: no plugin was asked)" if call.network.disable_check else ""
    click.echo(f"{attachment.ifname} of {attachment.container_id} on network {network}: as it was added{skipped}")


@cni.command()
@_NETWORK
@click.option("--keep", metavar="ID[/IFNAME]", multiple=True, help="A container to keep as well, repeatable.")
@click.option("--all", "everything", is_flag=True, help="Keep none but those of --keep.")
@_CONFIGURED
@_EXECUTABLES
@_CACHE
@output_option("json", "yaml")
def gc(
    network: str,
    keep: tuple[str, ...],
    everything: bool,
    conf_dir: Path,
    bin_dirs: tuple[Path, ...],
    cache_dir: Path,
    output: str | None,
) -> None:
    """Remove what containers that are gone have left.

    A container is kept while its network namespace exists, as far as it was added with the same --cache-dir: what
    another runtime added with another one is garbage to this, and has to be named by --keep.
    """
    found, runtime = find_network(conf_dir, network), _runtime(bin_dirs, cache_dir)
    with _exit_status():
        known = runtime.attachments(found)
    valid = {_keep(text) for text in keep}
    if not everything:
        valid |= {(one.container_id, one.ifname) for one in known if _is_netns(one.netns)}
    before = _look(found)
    with _exit_status():
        deleted = runtime.collect_garbage(found, valid)
    changes = _changes(before, _look(found))
    if output:
        value(
            {"kept": _names(valid), "deleted": _names((d.container_id, d.ifname) for d in deleted), **_plain(changes)},
            output,
        )
        return
    for what, names in (
        ("kept", _names(valid)),
        ("deleted", _names((one.container_id, one.ifname) for one in deleted)),
    ):
        click.echo(f"{what}: {', '.join(names) or 'none'}")
    _print_changes(changes)


@cni.command()
@click.argument("network", type=_NetworkType(), required=False)
@_CONFIGURED
@_EXECUTABLES
@_CACHE
@output_option("json", "yaml")
def status(
    network: str | None, conf_dir: Path, bin_dirs: tuple[Path, ...], cache_dir: Path, output: str | None
) -> None:
    """Show whether containers can be added now.

    The first network's reason decides the exit status where they cannot: 7 when no addresses are left, 6 and others.
    """
    runtime = _runtime(bin_dirs, cache_dir)
    networks, broken = ([find_network(conf_dir, network)], []) if network else read_networks(conf_dir)
    rows: list[dict[str, Any]] = []
    failed: list[NetlabError] = [*broken]
    for found in networks:
        said = "ready"
        try:
            with _exit_status():
                runtime.status(found)
        except NetlabError as error:
            said = str(error)
            failed.append(error)
        rows.append(
            {
                "network": found.name,
                "cniVersion": found.cni_version,
                "plugins": [plugin["type"] for plugin in found.plugins],
                "containers": len(runtime.attachments(found)),
                "status": said,
            }
        )
    if output:
        value(rows, output)
    else:
        cells = [
            [r["network"], r["cniVersion"], ",".join(r["plugins"]), str(r["containers"]), r["status"]] for r in rows
        ]
        table(["NETWORK", "VERSION", "PLUGINS", "CONTAINERS", "STATUS"], cells)
    if failed:
        raise failed[0]


@cni.group(context_settings={"help_option_names": ["-h", "--help"]})
def ipam() -> None:
    """Look at the addresses of netlab-ipam."""


@ipam.command("list")
@click.argument("network", type=_NetworkType(), required=False)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(_CACHE_DIR / "netlab"),
    show_default=True,
    help="The configuration's ipam.dataDir.",
)
@output_option("json", "yaml")
def list_reservations(network: str | None, data_dir: Path, output: str | None) -> None:
    """List who holds which address, since when."""
    from netlab.cni.ipam import listing

    try:
        networks = listing.networks(data_dir)
    except OSError as error:
        raise _refused(data_dir, error) from error
    chosen = [one for one in networks if network in {None, one.name}]
    if network and not chosen:
        raise NotFoundError(f"{data_dir}: no addresses of a network {network!r} were ever given")
    rows: list[dict[str, str]] = [
        {
            "network": one.name,
            "address": held.address,
            "containerID": held.container_id,
            "ifname": held.ifname,
            "since": datetime.datetime.fromtimestamp(held.since).astimezone().isoformat(timespec="seconds"),
        }
        for one in chosen
        for held in one.reservations
    ]
    if output:
        value(rows, output)
        return
    table(["NETWORK", "ADDRESS", "CONTAINER", "INTERFACE", "SINCE"], [list(row.values()) for row in rows])
    for one in chosen:
        for ranges in (each for each in one.sets if each.size):
            used = sum(_is_within(held.address, ranges.ranges) for held in one.reservations)
            click.echo(f"network {one.name}: {used} of the {ranges.size} addresses of {ranges.ranges} are reserved")
        if one.dead:
            click.echo(f"network {one.name}: these are of an earlier boot, and the next ADD frees them")
        for name in one.foreign:
            click.echo(f"network {one.name}: {name!r} in its folder is no reservation; it is left alone", err=True)


@cni.command()
def serve() -> None:
    """Answer the plugins' calls from one process.

    The executables hand their calls over at /run/netlab/cni.sock instead of loading what they need for each, and do
    without it when it is gone. Runs until interrupted.
    """
    from netlab.cni.call import SOCKET
    from netlab.cni.serve import main

    try:
        click.echo(f"netlab: CNI calls are answered at {SOCKET}", err=True)
        main()
    except OSError as error:
        raise _refused(Path(SOCKET), error) from error


cni.add_command(install)
cni.add_command(uninstall)


class _Call:
    """What a call of the command line is about."""

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
        from netlab.cni.runtime import Attachment

        self.network = find_network(conf_dir, network)
        self.runtime = _runtime(bin_dirs, cache_dir)
        self.attachment = Attachment(
            container_id or netns.strip("/").replace("/", "-"), netns, ifname, _args(pairs), _object(capability_args)
        )
        with _exit_status():
            self.attachment.check()


def _runtime(bin_dirs: tuple[Path, ...], cache_dir: Path) -> Runtime:
    from netlab.cni.runtime import Runtime
    from netlab.lab.paths import cni_plugin_dir

    return Runtime(bin_dirs or (cni_plugin_dir(), BIN_DIR), cache_dir)


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


def _is_within(address: str, ranges: str) -> bool:
    """Whether an address is in one of several ranges, given as `FIRST-LAST,FIRST-LAST`."""
    number = ipaddress.ip_address(address)
    ends = [[ipaddress.ip_address(end) for end in each.split("-")] for each in ranges.split(",")]
    return any(first.version == number.version and int(first) <= int(number) <= int(last) for first, last in ends)


def _keep(text: str) -> tuple[str, str]:
    container_id, _, ifname = text.partition("/")
    return container_id, ifname or "eth0"


def _names(attachments: Any) -> list[str]:
    return sorted(f"{container_id}/{ifname}" for container_id, ifname in attachments)


def _is_netns(path: str) -> bool:
    """Whether a namespace is there; after a reboot an ordinary file may have stayed at its path."""
    try:
        return bool(path) and Path(path).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False


@contextlib.contextmanager
def _exit_status() -> Iterator[None]:
    """Give a plugin's error the exit status of its kind."""
    try:
        yield
    except CniError as error:
        error.exit_status = _STATUS_OF_CODE.get(error.code, NetlabError).exit_status
        raise


@contextlib.contextmanager
def _watched(call: _Call, output: str | None) -> Iterator[dict[str, Any]]:
    """Show what the block did: the result that it puts into the dictionary, and what the kernel gained and lost."""
    netns = call.attachment.netns
    before = _look(call.network, netns)
    shown: dict[str, Any] = {}
    try:
        with _exit_status():
            yield shown
    except CniError:
        # An add that failed leaves nothing: if it did, this is the place to see it.
        _print_changes(_changes(before, _look(call.network, netns)), err=True)
        raise
    changes = _changes(before, _look(call.network, netns))
    if output:
        value(shown | _plain(changes), output)
        return
    if shown:
        value(shown["result"], "json")
    _print_changes(changes)


def _look(network: NetworkList, netns: str = "") -> dict[str, list[Line]]:
    """The node, with the network's reservations, and the container, if there is one."""
    from netlab.cni import changes
    from netlab.cni.ipam.store import DATA_DIR

    configs = [plugin.get("ipam") for plugin in network.plugins]
    data_dir = next((c.get("dataDir") or DATA_DIR for c in configs if isinstance(c, dict)), DATA_DIR)
    places = {"node": changes.snapshot(Path(str(data_dir)))}
    return places | ({"container": changes.snapshot_of(netns)} if netns else {})


def _changes(before: dict[str, list[Line]], after: dict[str, list[Line]]) -> dict[str, list[Change]]:
    from netlab.cni import changes

    return {place: changes.compare(before[place], after[place]) for place in before}


def _plain(changes: dict[str, list[Change]]) -> dict[str, Any]:
    return {
        place: [{"change": change.sign, "kind": change.line.kind, "what": change.line.text} for change in listed]
        for place, listed in changes.items()
    }


def _print_changes(changes: dict[str, list[Change]], *, err: bool = False) -> None:
    for place, listed in changes.items():
        if listed:
            click.echo(f"\n{place}:", err=err)
        for change in listed:
            click.echo(f"{change.sign} {change.line.kind:<11} {change.line.text}", err=err)


def _refused(path: Path, error: OSError) -> NetlabError:
    kind = UnsupportedError if isinstance(error, PermissionError) else NetlabError
    remedy = "; become root" if isinstance(error, PermissionError) else ""
    return kind(f"{error.filename or path}: {error.strerror}{remedy}")
