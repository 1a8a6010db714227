"""netlab cni install, uninstall."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.errors import UsageError

CONF_DIR = Path("/etc/cni/net.d")
BIN_DIR = Path("/opt/cni/bin")


@click.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True, help="For the plugins.")
@click.option(
    "--conf-dir", type=click.Path(path_type=Path), help=f"For a network, such as {CONF_DIR}; none if not given."
)
@click.option("--network", default="netlab", show_default=True, help="The network's name.")
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    default=["10.22.0.0/16"],
    show_default=True,
    help="Of either family, repeatable.",
)
@click.option(
    "--mode",
    type=click.Choice(["bridge", "routed", "vxlan"]),
    default="bridge",
    show_default=True,
    help="How it is wired.",
)
@click.option("--device", default="", help="Mode vxlan: the link to the other nodes.")
@click.option("--peers-file", type=click.Path(path_type=Path), help="Mode vxlan: the other nodes.")
@click.option(
    "--compiled",
    is_flag=True,
    help="Executables that start at once, for a host where `netlab cni serve` runs; needs cc.",
)
@click.option("--force", is_flag=True, help="Replace what somebody else has put there.")
def install(
    bin_dir: Path,
    conf_dir: Path | None,
    network: str,
    subnets: tuple[str, ...],
    mode: str,
    device: str,
    peers_file: Path | None,
    compiled: bool,
    force: bool,
) -> None:
    """Install the plugins, and a network.

    For podman, containerd, CRI-O or a kubelet; a network that works is written with --conf-dir.
    They run this installation of netlab with this very interpreter: install again after either has moved.
    """
    import tempfile

    from netlab.cni import install as installation
    from netlab.cni.client import build

    if (mode == "vxlan") != bool(device) or (peers_file and mode != "vxlan"):
        raise UsageError(
            "--device names the link to the other nodes; --mode vxlan needs it, and no other mode takes it"
        )
    peers = str(peers_file.absolute()) if peers_file else ""
    wanted = installation.network_list(network, subnets, mode, device=device, peers_file=peers)
    with tempfile.TemporaryDirectory() as folder:
        client = build(Path(folder) / "client") if compiled else None
        for path in installation.install(bin_dir, conf_dir, wanted, client=client, force=force):
            click.echo(path)


@click.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True, help="Of the plugins.")
@click.option("--conf-dir", type=click.Path(path_type=Path), help="Of the networks; they are left if not given.")
def uninstall(bin_dir: Path, conf_dir: Path | None) -> None:
    """Remove what `netlab cni install` put there.

    Exactly that: what was changed since is kept, and named.
    """
    from netlab.cni import install as installation

    # The networks first: a runtime must not find one whose plugins are gone.
    for folder in [conf_dir, bin_dir] if conf_dir else [bin_dir]:
        removed, kept = installation.uninstall(folder)
        for path in removed:
            click.echo(f"removed {path}")
        for path in kept:
            click.echo(f"kept {path}: it was changed since it was installed", err=True)
