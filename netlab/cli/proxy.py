"""netlab proxy: running a kube-proxy outside a lab, and explaining one's decisions."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netlab.cli.asking import ask, unwrapped
from netlab.cli.ends import destination_argument, source_argument
from netlab.cli.options import lab_option, namespace_option, output_option
from netlab.cli.output import say, value
from netlab.errors import UnsupportedError, UsageError
from netlab.lab.lab import Lab
from netlab.net.addresses import host_port

if TYPE_CHECKING:
    from netlab.api.client import Client
    from netlab.api.cluster import Cluster
    from netlab.proxy.config import ProxyConfig
    from netlab.proxy.explain import Explanation

F = TypeVar("F", bound=Callable[..., Any])

_DIFFERS = 1
_SHOWN = 20
"""How many differences an explanation lists; `netlab proxy diff` lists them all."""

log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def proxy() -> None:
    """Explain why a connection goes where it goes, or run kube-proxy outside a lab.

    \b
    netlab proxy explain web-5d4f9-x2x7p svc/web:80
    netlab proxy diff
    netlab proxy run --kubeconfig ~/.kube/config --hostname-override node-1
    """


def _api_options(command: F) -> F:
    """The options for an API server and a node's proxy outside a lab."""
    for option in (
        click.option("--cluster-cidr", "cluster_cidrs", multiple=True, help="The pods' network, one for each family."),
        click.option("--proxy-mode", type=click.Choice(["nftables", "iptables"]), help="The proxy's mode."),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); other options override it.",
        ),
        click.option(
            "--api-socket", type=click.Path(path_type=Path), help="An API server's Unix socket, e.g. a lab's."
        ),
        click.option("--kubeconfig", type=click.Path(path_type=Path), help="The kubeconfig for an API server."),
    ):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class _Outside:
    """The options of a proxy outside a lab."""

    kubeconfig: Path | None
    api_socket: Path | None
    config_file: Path | None
    proxy_mode: Any
    cluster_cidrs: tuple[str, ...]
    node: str | None

    def __bool__(self) -> bool:
        return bool(self.kubeconfig or self.api_socket or self.config_file)

    def load(self) -> tuple[ProxyConfig, str, Any]:
        """The configuration, the kubeconfig that its file names, and the form of its logs."""
        from netlab.proxy import configfile
        from netlab.proxy.config import DetectLocal

        document = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
        loaded = configfile.load(self.config_file) if self.config_file else configfile.parse(document)
        if loaded.ignored:
            say(f"Warning: {self.config_file}: these have no effect here: {', '.join(loaded.ignored)}", err=True)
        changes: dict[str, Any] = {
            "node_name": self.node or loaded.config.node_name or os.uname().nodename.lower(),
            # Without IPv6 in the kernel there is nothing to do for it.
            "families": ("IPv4", "IPv6") if Path("/proc/net/if_inet6").exists() else ("IPv4",),
        }
        if self.proxy_mode:
            changes["mode"] = self.proxy_mode
        if self.cluster_cidrs:
            changes["detect_local"] = DetectLocal("ClusterCIDR", self.cluster_cidrs)
        return dataclasses.replace(loaded.config, **changes), loaded.kubeconfig, loaded.log_format

    def client(self, kubeconfig: str, node: str) -> Client:
        """A client of the API server: the given one, the file's, or that of the cluster this pod runs in."""
        from netlab.api import kubeconfig as kubeconfigs
        from netlab.api.client import Client

        if self.kubeconfig and self.api_socket:
            raise UsageError("--kubeconfig and --api-socket both name an API server; leave one out")
        if self.api_socket:
            return Client(self.api_socket, user_agent=f"kube-proxy/{node}")
        named = self.kubeconfig or (Path(kubeconfig) if kubeconfig else None)
        endpoint = kubeconfigs.load(named) if named else kubeconfigs.in_cluster()
        return Client(endpoint, user_agent=f"kube-proxy/{node}")


@proxy.command()
@_api_options
@click.option("--hostname-override", "node", help="The Node's name, if it is not the host's.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="The format of the log.")
def run(log_format: Any, **given: Any) -> None:
    """Keep this network namespace's rules in line with an API server's Services, until SIGTERM or SIGINT.

    The rules stay when it ends. Without an option for the API server it uses that of the cluster whose pod it runs in.
    """
    outside = _Outside(**given)
    config, kubeconfig, form = outside.load()
    client = outside.client(kubeconfig, config.node_name)
    from netlab.proxy import logs

    logs.set_up(log_format or form)
    unwrapped(_serve(client, config))


async def _serve(client: Client, config: ProxyConfig) -> None:
    from netlab.proxy.run import run as run_proxy

    async with client:
        serving = asyncio.ensure_future(run_proxy(client, config, lambda: log.info("the first rules are in force")))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


_NODE = click.option("--node", help="The node whose rules to look at.")


@proxy.command()
@lab_option
@_NODE
@_api_options
@namespace_option
@output_option("json", "yaml")
@source_argument
@destination_argument
def explain(
    lab: Lab, node: str | None, namespace: str, output: str | None, source: str, destination: str, **given: Any
) -> None:
    """Explain what happens to a new connection. Exits with status 1 if the kernel's rules are not as planned.

    SOURCE is an address, a pod, node/NAME or outside. DESTINATION is ADDRESS:PORT, svc/NAME[.NAMESPACE]:PORT or
    node/NAME:PORT, with /udp or /sctp if it is not TCP.

    The answer is for the node where the connection starts, or the node it goes to, or that announces a load balancer's
    address; choose another with --node. With an
    API server given, it is for this network namespace.

    \b
    netlab proxy explain web-5d4f9-x2x7p svc/web:80
    netlab proxy explain outside node/node-2:30080
    netlab proxy explain --node node-1 outside 198.51.100.7:443
    """
    import msgspec

    from netlab.api.cluster import NAMED, fetch
    from netlab.proxy.connection_ends import ends, narrowed
    from netlab.proxy.observe import arriving, explained

    outside = _Outside(node=node, **given)
    if outside:
        config, kubeconfig, _ = outside.load()
        cluster = ask(outside.client(kubeconfig, config.node_name), functools.partial(fetch, queries=NAMED))
        found = ends(source, destination, namespace, cluster, ())
        arrived = arriving(*narrowed(found))
        explanation = ask(
            outside.client(kubeconfig, config.node_name), lambda client: explained(client, config, arrived)
        )
    else:
        from netlab.lab.components import proxy_config

        spec = _spec(lab)
        cluster = ask(_lab_client(lab), functools.partial(fetch, queries=NAMED))
        found = ends(source, destination, namespace, cluster, spec.outside_addresses)
        packet = narrowed(found)
        announcer = _announcer(lab, cluster, packet[1])
        node = node or found.node or announcer
        if not node:
            raise UsageError(f"neither {source} nor {destination} belongs to a node; choose one with --node")
        _enter(lab, node)
        config = proxy_config(spec, node)
        arrived = arriving(*packet)
        explanation = ask(_lab_client(lab), lambda client: explained(client, config, arrived))
        explanation = msgspec.structs.replace(explanation, announcer=announcer)
    if output:
        value({"node": config.node_name, **msgspec.to_builtins(explanation)}, output)
    else:
        _print(explanation, config.node_name)
    if explanation.differences:
        sys.exit(_DIFFERS)


@proxy.command()
@lab_option
@_NODE
@_api_options
@output_option("json", "yaml")
def diff(lab: Lab, node: str | None, output: str | None, **given: Any) -> None:
    """Compare the kernel's rules with what the API's objects require. Exits with status 1 if they differ.

    Checks all nodes of the lab, or one. With an API server given, it checks this network namespace.
    """
    from netlab.proxy.observe import differences

    outside = _Outside(node=node, **given)
    found: dict[str, list[str]] = {}
    if outside:
        config, kubeconfig, _ = outside.load()
        client = outside.client(kubeconfig, config.node_name)
        found[config.node_name] = ask(client, functools.partial(differences, config=config))
    else:
        from netlab.lab.components import proxy_config

        spec = _spec(lab)
        for name in [node] if node else spec.node_names:
            _enter(lab, name)
            of_node = proxy_config(spec, name)
            found[name] = ask(_lab_client(lab), functools.partial(differences, config=of_node))
    if output:
        value(found, output)
    else:
        for name, lines in found.items():
            for line in lines or ["as planned"]:
                say(f"{name}: {line}")
    if any(found.values()):
        sys.exit(_DIFFERS)


@proxy.command()
@lab_option
@click.option("--node", help="A node of the lab.  [default: this network namespace]")
def cleanup(lab: Lab, node: str | None) -> None:
    """Remove the rules of a kube-proxy, in both modes, if there are any.

    A proxy that is still running makes its rules again.
    """
    from netlab.proxy.executor import cleanup as clean

    if node:
        _enter(lab, node)
    for mode in ("nftables", "iptables"):
        try:
            clean(mode, ("IPv4", "IPv6"))
        except UnsupportedError as error:
            say(f"Warning: {mode}: {error}", err=True)


def _announcer(lab: Lab, cluster: Cluster, address: str) -> str | None:
    """The node that announces a load balancer's address, empty if none does; None if it is not one, or all may."""
    from netlab.api import load_balancers
    from netlab.api.resources import LEASES

    if lab.spec().loadBalancerProtocol == "bgp":
        return None
    leases = lab.client().list(LEASES, load_balancers.LEASE_NAMESPACE)
    return load_balancers.announcers(cluster.services.values(), leases, time.time()).get(address)


def _spec(lab: Lab) -> Any:
    lab.require_up()
    return lab.spec()


def _lab_client(lab: Lab) -> Client:
    from netlab.api.client import Client

    return Client(lab.paths.api_socket, user_agent="netlab proxy")


def _enter(lab: Lab, node: str) -> None:
    """Move this process into a node's network namespace."""
    from netlab.machine.join import join
    from netlab.net import syscalls

    if node not in lab.spec().node_names:
        # The lab's other machines have tables too, but no proxy.
        raise UsageError(f"--node: lab {lab.name} has no node {node!r}; it has {', '.join(lab.spec().node_names)}")
    with lab.machine(node) as machine:
        pidfd = machine.open(None)
    try:
        join(pidfd, syscalls.CLONE_NEWNET)
    finally:
        os.close(pidfd)


def _print(found: Explanation, node: str) -> None:
    say(f"{found.source} -> {found.destination} on {node}: {found.decision}")
    rows = [("source", found.origin)]
    if found.frontend:
        rows.append(("frontend", f"{found.frontend} of Service {found.service}"))
    if found.announcer is not None:
        rows.append(("announced", f"by {found.announcer}" if found.announcer else "by nobody: no node holds its Lease"))
    rows += [("because", text) for text in found.why]
    for endpoint in found.endpoints:
        where = {True: ", on this node", False: "", None: ", on an unknown node"}[endpoint.local]
        rows.append(("endpoint", f"{host_port(endpoint.address, endpoint.port)}, chance {endpoint.chance:.3g}{where}"))
    if found.endpoints:
        rows.append(("masquerade", f"{'yes' if found.masquerade else 'no'}: {found.masquerade_why}"))
    rows += [("rule", text) for text in found.rules]
    rows += [("differs", text) for text in found.differences[:_SHOWN]] or [("kernel", "as planned")]
    if len(found.differences) > _SHOWN:
        rows.append(("differs", f"and {len(found.differences) - _SHOWN} more: netlab proxy diff"))
    last = ""
    for name, text in rows:
        say(f"  {'' if name == last else name:<10}  {text}")
        last = name
