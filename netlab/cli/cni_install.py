"""netlab cni install, uninstall."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.errors import NetlabError, UsageError

CONF_DIR = Path("/etc/cni/net.d")
BIN_DIR = Path("/opt/cni/bin")


@click.command()
@click.option(
    "--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True, help="Where plugins go."
)
@click.option(
    "--conf-dir",
    type=click.Path(path_type=Path),
    help=f"Where a network goes, e.g. {CONF_DIR}; by default there is none.",
)
@click.option("--network", default="netlab", show_default=True, help="The network's name.")
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    default=["10.22.0.0/16"],
    show_default=True,
    help="A subnet of either family; repeatable.",
)
@click.option(
    "--mode",
    type=click.Choice(["bridge", "routed", "vxlan"]),
    default="bridge",
    show_default=True,
    help="How containers are attached.",
)
@click.option("--device", default="", help="For mode vxlan: the link to the other nodes.")
@click.option("--peers-file", type=click.Path(path_type=Path), help="For mode vxlan: lists the other nodes.")
@click.option(
    "--compiled/--no-compiled",
    default=None,
    help="Executables in C, which start at once and need cc to be built; by default where they can be had.",
)
@click.option("--force", is_flag=True, help="Replace files that netlab did not install.")
def install(
    bin_dir: Path,
    conf_dir: Path | None,
    network: str,
    subnets: tuple[str, ...],
    mode: str,
    device: str,
    peers_file: Path | None,
    compiled: bool | None,
    force: bool,
) -> None:
    """Install the plugins, and a network.

    For podman, containerd, CRI-O or a kubelet. With --conf-dir it also writes a working network. The plugins run this
    installation of netlab with this Python interpreter: install again after either has moved.
    """
    import tempfile

    from netlab.cni.installation import install as installation
    from netlab.cni.installation.network import network_list

    if (mode == "vxlan") != bool(device) or (peers_file and mode != "vxlan"):
        raise UsageError(
            "--device names the link to the other nodes; --mode vxlan needs it, and other modes do not accept it"
        )
    peers = str(peers_file.absolute()) if peers_file else ""
    wanted = network_list(network, subnets, mode, device=device, peers_file=peers)
    with tempfile.TemporaryDirectory() as folder:
        client = _client(Path(folder), compiled)
        for path in installation.install(bin_dir, conf_dir, wanted, client=client, force=force):
            click.echo(path)


def _client(folder: Path, compiled: bool | None) -> Path | None:
    """The compiled executable, if it is wanted, or can be had where nobody said what is wanted."""
    from netlab.cni.installation.client import ready

    if compiled is False:
        return None
    try:
        client = ready(folder)
    except NetlabError as error:
        if compiled:
            raise
        click.echo(f"executables in Python, which start more slowly than compiled ones: {error}", err=True)
        return None
    click.echo("compiled executables, and those in Python that do the work beside them", err=True)
    return client


@click.command()
@click.option(
    "--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True, help="Where plugins are."
)
@click.option("--conf-dir", type=click.Path(path_type=Path), help="Where the networks are; by default they are kept.")
def uninstall(bin_dir: Path, conf_dir: Path | None) -> None:
    """Remove what `netlab cni install` installed.

    Keeps, and lists, files that have changed since.
    """
    from netlab.cni.installation import install as installation

    # The networks first: a runtime must not find a network whose plugins are gone.
    for folder in [conf_dir, bin_dir] if conf_dir else [bin_dir]:
        removed, kept = installation.uninstall(folder)
        for path in removed:
            click.echo(f"removed {path}")
        for path in kept:
            click.echo(f"kept {path}: changed since it was installed", err=True)
