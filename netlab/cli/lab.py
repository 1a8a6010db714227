"""netlab up, down, status, list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netlab.cli.options import lab_option, output_option
from netlab.cli.output import Progress, raise_all, table, value, warn
from netlab.counted import counted
from netlab.errors import NetlabError, UsageError
from netlab.lab.lab import Lab, all_labs

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@lab_option
@click.option("--nodes", type=int, metavar="N", help="The number of nodes (3).")
@click.option("--network", type=click.Choice(["vxlan", "routed", "bridge"]), help="The pod network (vxlan).")
@click.option("--proxy", type=click.Choice(["nftables", "iptables"]), help="kube-proxy's mode (nftables).")
@click.option("--ipv6", "families", flag_value="IPv6", help="IPv6 only.")
@click.option("--dual-stack", "families", flag_value="IPv4,IPv6", help="IPv4 and IPv6.")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="A lab.yaml: a document of kind Lab, and manifests to apply.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Merge the lab into this kubeconfig and make it the current context; `netlab down` takes it out again.",
)
@click.option(
    "--api-address",
    metavar="ADDRESS",
    help="The address of this host at which the API listens, over TLS (127.0.0.1).",
)
@click.option(
    "--store",
    metavar="sqlite|etcd|etcd=URL",
    help="What keeps the API's objects: SQLite, an etcd of the lab's own, or one that is there (http, https).",
)
@click.option("--dns/--no-dns", default=None, help="Cluster DNS, in pods of kube-system (--dns).")
@click.option(
    "--ingress/--no-ingress", default=None, help="A proxy for Ingresses, in a pod of kube-system (--no-ingress)."
)
@click.option("--etcd-cafile", type=_FILE, help="The authority of the certificate of the etcd at the URL.")
@click.option("--etcd-certfile", type=_FILE, help="The certificate by which that etcd knows the lab.")
@click.option("--etcd-keyfile", type=_FILE, help="Its key.")
@click.option(
    "--load-balancer-pool",
    "pools",
    multiple=True,
    metavar="CIDR",
    help="Addresses for Services of type LoadBalancer, as often as needed (192.0.2.128/26, 2001:db8::1:0/112).",
)
@click.option(
    "--load-balancer-protocol",
    "protocol",
    type=click.Choice(["arp", "bgp"]),
    help="How nodes announce these addresses: one by ARP and NDP, or all by BGP to a router in the outside (arp).",
)
@click.option(
    "--runtime",
    type=click.Choice(["builtin", "docker"]),
    help="What runs containers: netlab itself, or the Docker engine of DOCKER_HOST (root only; implies --privileged).",
)
@click.option(
    "--privileged/--no-privileged",
    default=None,
    help="Root only: do without a user namespace. Root of a node, or a process that escapes from a pod, is root here.",
)
def up(
    lab: Lab,
    nodes: int | None,
    network: str | None,
    proxy: str | None,
    families: str | None,
    file: Path | None,
    kubeconfig: Path | None,
    api_address: str | None,
    store: str | None,
    dns: bool | None,
    ingress: bool | None,
    etcd_cafile: Path | None,
    etcd_certfile: Path | None,
    etcd_keyfile: Path | None,
    pools: tuple[str, ...],
    protocol: str | None,
    runtime: str | None,
    privileged: bool | None,
) -> None:
    """Start a lab: a whole cluster in about a second.

    A lab that is down starts again with its objects.

    \b
    netlab up --nodes 2 --network routed --proxy iptables --dual-stack
    """
    from netlab.lab import access, external_etcd
    from netlab.lab.spec import from_values, load

    values: dict[str, Any] = {}
    manifests: list[dict[str, Any]] = []
    if file is not None:
        values, manifests = load(file)
    given = {
        "nodes": nodes,
        "network": network,
        "proxy": proxy,
        "families": families and families.split(","),
        "apiAddress": api_address,
        "store": store,
        "dns": dns,
        "ingress": ingress,
        "loadBalancerPools": list(pools) or None,
        "loadBalancerProtocol": protocol,
        "runtime": runtime,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    kind, is_elsewhere, url = str(values.get("store", "")).partition("=")
    external = None
    if kind == "etcd" and is_elsewhere:
        values["store"] = kind
        external = external_etcd.given(lab.name, url, etcd_cafile, etcd_certfile, etcd_keyfile)
    elif etcd_cafile or etcd_certfile or etcd_keyfile:
        raise UsageError(
            "--etcd-cafile, --etcd-certfile, --etcd-keyfile: they are about --store etcd=https://HOST:PORT"
        )
    spec = from_values(values, str(file or "netlab up")) if values else None
    from netlab.doctor import require

    wanted = spec or (lab.spec() if lab.paths.spec.exists() else from_values({}))
    is_there = external is not None or external_etcd.note_of(lab.paths).exists()
    require(
        network=wanted.network,
        proxy=wanted.proxy,
        store="sqlite" if is_there else wanted.store,
        load_balancer_protocol=wanted.loadBalancerProtocol,
        ingress=wanted.ingress,
    )
    from netlab.lab.lifecycle import up as bring_up

    if kubeconfig is not None:
        access.require_writable(lab.paths, kubeconfig)
    progress = Progress()
    try:
        made = bring_up(lab, spec, progress, privileged=privileged, external=external)
        if kubeconfig is not None:
            access.write(lab.paths, access.kubeconfig(lab), kubeconfig)
        if manifests:
            from netlab.api.apply import apply

            progress(f"applying {counted(len(manifests), 'object')}")
            apply(lab.client(), manifests, "default", warn)
    finally:
        seconds = progress.done()
    click.echo(
        f"lab {lab.name}: {counted(made.nodes, 'node')}, {made.network} network, {made.proxy} proxy, "
        f"{' and '.join(made.families)}, pod MTU {made.pod_mtu}: up in {seconds:.1f} s"
    )


@click.command()
@lab_option
@click.option("--all", "every", is_flag=True, help="All labs of this user.")
def down(lab: Lab, every: bool) -> None:
    """Stop a lab and remove all its processes, namespaces, mounts and files."""
    failures = []
    for each in all_labs() if every else [lab]:
        try:
            _down(each)
        except NetlabError as error:
            failures.append(error)
    raise_all(failures)


def _down(lab: Lab) -> None:
    from netlab.lab.lifecycle import down as take_down

    progress = Progress()
    progress(f"stopping lab {lab.name}")
    try:
        there = take_down(lab)
    finally:
        seconds = progress.done()
    click.echo(f"lab {lab.name}: down in {seconds:.1f} s" if there else f"lab {lab.name}: no such lab")


@click.command()
@lab_option
@output_option("json", "yaml", "wide")
def status(lab: Lab, output: str | None) -> None:
    """Show a lab's machines, components, nodes and network.

    A node lags whose kube-proxy or agent of the pod network has not put in force what the API has had for a second.
    Exits with status 6 if the lab is down.
    """
    if not lab.exists():
        lab.require_up()
    from netlab.lab.status import status as status_of

    found = status_of(lab)
    if output in ("json", "yaml"):
        value(found, output)
    else:
        _print_status(found, wide=output == "wide")
    if found["state"] != "up":
        lab.require_up()


def _print_status(found: dict[str, Any], *, wide: bool) -> None:
    click.echo(f"lab {found['name']}: {found['state']}")
    click.echo(f"network {found['network']}, pod MTU {found['mtu']}, proxy {found['proxy']}")
    click.echo(f"pods {', '.join(found['podCIDRs'])}; Services {', '.join(found['serviceCIDRs'])}")
    click.echo(f"outside {', '.join(found['outside'])}; directory {found['directory']}")
    if found["nodes"]:
        click.echo()
        table(
            ["NODE", "STATUS", "ADDRESS", "POD-CIDR", "PODS"],
            [
                [
                    node["name"],
                    ("Ready" if node["ready"] else "NotReady") + ("" if node["synced"] else ",Lagging"),
                    ",".join(node["addresses"]),
                    ",".join(node["podCIDRs"]) or "<none>",
                    str(node["pods"]),
                ]
                for node in found["nodes"]
            ],
        )
    if found["lagging"]:
        click.echo()
        table(
            ["LAGGING", "NODE", "REVISION", "OF"],
            [
                [lag["component"], lag["node"] or "<none>", str(lag["revision"]), str(lag["wanted"])]
                for lag in found["lagging"]
            ],
        )
    troubled = [c for c in found["components"] if wide or not c["running"] or c["restarts"]]
    if troubled:
        click.echo()
        table(
            ["COMPONENT", "MACHINE", "STATUS", "RESTARTS"],
            [
                [c["name"], c["machine"], "Running" if c["running"] else "Restarting", str(c["restarts"])]
                for c in troubled
            ],
        )


@click.command("list")
@output_option("json", "yaml", "wide")
def list_labs(output: str | None) -> None:
    """List the labs of this user.

    Exits with status 1 if a lab's lab.json cannot be read; the others are listed.
    """
    labs, failures = [], []
    for lab in all_labs():
        try:
            labs.append(_listed(lab))
        except NetlabError as error:
            failures.append(error)
    if output in ("json", "yaml"):
        value(labs, output)
    else:
        _print_labs(labs, wide=output == "wide")
    raise_all(failures)


def _listed(lab: Lab) -> dict[str, Any]:
    spec = lab.spec()
    return {
        "name": lab.name,
        "state": "up" if lab.is_up() else "down",
        "nodes": spec.nodes,
        "network": spec.network,
        "proxy": spec.proxy,
        "families": list(spec.families),
        "directory": str(lab.paths.directory),
    }


def _print_labs(labs: list[dict[str, Any]], *, wide: bool) -> None:
    header = ["NAME", "STATE", "NODES", "NETWORK", "PROXY", "FAMILIES"] + (["DIRECTORY"] if wide else [])
    keys = ["name", "state", "nodes", "network", "proxy", "families"] + (["directory"] if wide else [])
    rows = [[",".join(v) if isinstance(v := lab[key], list) else str(v) for key in keys] for lab in labs]
    table(header, rows)
