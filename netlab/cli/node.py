"""netlab node: a node of another cluster."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.cli.options import NODE_NAME
from netlab.cli.output import Progress, warn
from netlab.lab.lab import Lab

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def node() -> None:
    """Make a node here for a cluster that is elsewhere, with any API server.

    \b
    netlab node join --kubeconfig ~/.kube/config --name guest
    netlab node leave --kubeconfig ~/.kube/config --name guest
    """


@node.command()
@click.option("--kubeconfig", type=_FILE, required=True, help="The API server, and who joins the node.")
@click.option("--context", default="", help="A context of the kubeconfig (its current one).")
@click.option("--name", "lab", type=NODE_NAME, required=True, metavar="NODE", help="The node's name.")
@click.option("--server-ca", type=_FILE, help="Who signed the server's certificate, if not as the kubeconfig says.")
@click.option(
    "--client-ca", type=_FILE, help="Who signs the certificates of the kubelet's clients (as the cluster says)."
)
@click.option(
    "--node-ip", default="", metavar="ADDRESS", help="This host's address for the cluster (as the server sees it)."
)
@click.option(
    "--kubelet-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The kubelet's port there (10250, or a free one).",
)
@click.option(
    "--cluster-cidr",
    "cluster_cidrs",
    multiple=True,
    metavar="CIDR",
    help="The pods' network of the whole cluster, one for each family (10.244.0.0/16).",
)
@click.option(
    "--pod-cidr",
    "pod_cidrs",
    multiple=True,
    metavar="CIDR",
    help="The node's part of it, if the cluster gives it none.",
)
@click.option("--proxy", type=click.Choice(["nftables", "iptables"]), default="nftables", help="kube-proxy's mode.")
def join(
    kubeconfig: Path,
    context: str,
    lab: Lab,
    server_ca: Path | None,
    client_ca: Path | None,
    node_ip: str,
    kubelet_port: int | None,
    cluster_cidrs: tuple[str, ...],
    pod_cidrs: tuple[str, ...],
    proxy: str,
) -> None:
    """Make a node, and have it join the cluster of a kubeconfig.

    Its pods run here, in namespaces; its kubelet is reached at an address of this host. Who joins it must be allowed
    to ask for certificates; they are approved here if the user may do that too.
    """
    from netlab.api import kubeconfig as kubeconfigs
    from netlab.api.credentials import File
    from netlab.doctor import require
    from netlab.lab import joining

    server = kubeconfigs.load(kubeconfig, context)
    if server_ca is not None:
        server = server.trusting(File(server_ca, "--server-ca"))
    require(network="routed", proxy=proxy, store="sqlite")
    wanted = joining.Wanted(
        name=lab.name,
        address=node_ip,
        port=kubelet_port or 0,
        cluster_cidrs=cluster_cidrs,
        pod_cidrs=pod_cidrs,
        proxy=proxy,
        client_ca=None if client_ca is None else File(client_ca, "--client-ca").read(),
    )
    progress = Progress()
    try:
        made = joining.join(lab, server, wanted, progress, warn)
    finally:
        seconds = progress.done()
    assert made.joins is not None
    click.echo(f"node {lab.name} has joined {made.joins.url}: Ready in {seconds:.1f} s")


@node.command()
@click.option("--kubeconfig", type=_FILE, required=True, help="The API server, and who takes the Node out.")
@click.option("--context", default="", help="A context of the kubeconfig (its current one).")
@click.option("--name", "lab", type=NODE_NAME, required=True, metavar="NODE", help="The node's name.")
def leave(kubeconfig: Path, context: str, lab: Lab) -> None:
    """Take a node that has joined a cluster out of it, and remove every trace of it here.

    `netlab down --name NODE` removes what is here, and asks nobody.
    """
    from netlab.api import kubeconfig as kubeconfigs
    from netlab.lab import joining

    joining.leave(lab, kubeconfigs.load(kubeconfig, context))
    click.echo(f"node {lab.name} has left")
