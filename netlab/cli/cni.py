"""netlab cni: the runtime's side of CNI, by hand."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import click

from netlab.cli.cni_call import (
    CACHE_DIR,
    Call,
    Watch,
    all_networks,
    bin_dir_option,
    cache_dir_option,
    chosen_network,
    conf_dir_option,
    exit_status,
    interface_options,
    netns_argument,
    network_argument,
    optional_network_argument,
    runtime_of,
    watched,
)
from netlab.cli.cni_install import install, uninstall
from netlab.cli.options import output_option
from netlab.cli.output import say, table, value
from netlab.errors import NetlabError, NotFoundError, UnsupportedError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cni() -> None:
    """Call CNI plugins by hand, as a container runtime does, and see what changed in the kernel.

    \b
    netlab cni install --conf-dir /etc/cni/net.d      the plugins, and a working network
    ip netns add demo
    netlab cni add netlab demo                        NETNS is an ip-netns(8) name, or a path
    netlab cni check netlab demo
    netlab cni del netlab demo
    """


@cni.command()
@network_argument
@netns_argument
@interface_options
@output_option("json", "yaml")
def add(network: str, netns: str, output: str | None, **given: Any) -> None:
    """Add a namespace to a network.

    Shows the plugins' result, and what changed in the kernel on the node and in the namespace.
    """
    call = Call(network, netns, **given)
    if not Path(netns).exists():
        raise NotFoundError(
            f"network namespace {netns} does not exist; create it with: ip netns add {Path(netns).name}"
        )
    with watched(call, output) as shown:
        shown["result"] = call.runtime.add(call.network, call.attachment)


@cni.command("del")
@network_argument
@netns_argument
@interface_options
@output_option("json", "yaml")
def delete(network: str, netns: str, output: str | None, **given: Any) -> None:
    """Remove a namespace from a network.

    Shows what changed in the kernel. Succeeds even if the namespace was never added, or is gone.
    """
    call = Call(network, netns, **given)
    with watched(call, output):
        call.runtime.delete(call.network, call.attachment)


@cni.command()
@network_argument
@netns_argument
@interface_options
def check(network: str, netns: str, **given: Any) -> None:
    """Check that everything that was added is still there.

    If not, names what is broken and exits with status 9.
    """
    call = Call(network, netns, **given)
    with exit_status():
        call.runtime.check(call.network, call.attachment)
    attachment = call.attachment
    skipped = " (disableCheck: no plugin was called)" if call.network.disable_check else ""
    say(f"{attachment.ifname} of {attachment.container_id} on network {network}: unchanged{skipped}")


@cni.command()
@network_argument
@click.option("--keep", metavar="ID[/IFNAME]", multiple=True, help="Keep this container too; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Keep only the containers given with --keep.")
@conf_dir_option
@bin_dir_option
@cache_dir_option
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
    """Remove what deleted containers left behind.

    A container is kept while its network namespace exists, if it was added with the same --cache-dir: what another
    runtime added with its own cache looks like garbage here, and must be named with --keep.
    """
    found, runtime = chosen_network(conf_dir, network), runtime_of(bin_dirs, cache_dir)
    with exit_status():
        known = runtime.attachments(found)
    valid = {_keep(text) for text in keep}
    if not everything:
        valid |= {(one.container_id, one.ifname) for one in known if _is_netns(one.netns)}
    watch = Watch(found)
    with exit_status():
        deleted = runtime.collect_garbage(found, valid)
    names = {"kept": _names(valid), "deleted": _names((one.container_id, one.ifname) for one in deleted)}
    if output:
        value(names | watch.values(), output)
        return
    for what, listed in names.items():
        say(f"{what}: {', '.join(listed) or 'none'}")
    watch.print()


@cni.command()
@optional_network_argument
@conf_dir_option
@bin_dir_option
@cache_dir_option
@output_option("json", "yaml")
def status(
    network: str | None, conf_dir: Path, bin_dirs: tuple[Path, ...], cache_dir: Path, output: str | None
) -> None:
    """Show whether containers can be added.

    Exits with status 6 if a plugin says that they cannot; the first network's reason counts.
    """
    runtime = runtime_of(bin_dirs, cache_dir)
    networks, broken = ([chosen_network(conf_dir, network)], []) if network else all_networks(conf_dir)
    rows: list[dict[str, Any]] = []
    failed: list[NetlabError] = [*broken]
    for found in networks:
        containers, said = 0, "ready"
        try:
            with exit_status():
                containers = len(runtime.attachments(found))
                runtime.status(found)
        except NetlabError as error:
            said = str(error)
            failed.append(error)
        rows.append(
            {
                "network": found.name,
                "cniVersion": found.cni_version,
                "plugins": [plugin["type"] for plugin in found.plugins],
                "containers": containers,
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
    """Show netlab-ipam's addresses."""


@ipam.command("list")
@optional_network_argument
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=CACHE_DIR / "netlab",
    show_default=True,
    help="The configuration's ipam.dataDir.",
)
@output_option("json", "yaml")
def list_reservations(network: str | None, data_dir: Path, output: str | None) -> None:
    """List which container holds which address, and since when."""
    from netlab.cni.plugins.ipam import listing

    try:
        networks = listing.networks(data_dir)
    except OSError as error:
        raise _refused(data_dir, error) from error
    chosen = [one for one in networks if network in {None, one.name}]
    if network and not chosen:
        raise NotFoundError(f"{data_dir}: network {network!r} has never given an address")
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
            say(f"network {one.name}: {used} of the {ranges.size} addresses of {ranges.ranges} are reserved")
        if one.dead:
            say(f"network {one.name}: these date from an earlier boot; the next ADD frees them")
        for name in one.foreign:
            say(f"network {one.name}: {name!r} in its folder is not a reservation; ignored", err=True)


@cni.command()
def serve() -> None:
    """Answer the plugins' calls from one process.

    The executables hand their calls over at /run/netlab/cni.sock instead of loading what they need each time, and work
    without it when it is gone. Runs until interrupted.
    """
    from netlab.cni.plugins.call import SOCKET
    from netlab.cni.plugins.resident.serve import main

    try:
        click.echo(f"answering CNI calls at {SOCKET} until interrupted", err=True)
        main()
    except OSError as error:
        raise _refused(Path(SOCKET), error) from error


cni.add_command(install)
cni.add_command(uninstall)


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
    """Whether a namespace exists, or may exist; after a reboot an ordinary file may remain at its path."""
    try:
        return bool(path) and Path(path).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # what we may not look at belongs to someone else
        return True


def _refused(path: Path, error: OSError) -> NetlabError:
    kind = UnsupportedError if isinstance(error, PermissionError) else NetlabError
    remedy = "; become root" if isinstance(error, PermissionError) else ""
    return kind(f"{error.filename or path}: {error.strerror}{remedy}")
