"""netlab policy: who may talk to whom and why, and an enforcer outside a lab."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netlab.cli.asking import ask, unwrapped
from netlab.cli.ends import destination_argument, source_argument
from netlab.cli.options import lab_option, namespace_option, output_option
from netlab.cli.output import say, table, value
from netlab.errors import NotFoundError, UsageError
from netlab.lab.lab import Lab

if TYPE_CHECKING:
    from netlab.api.client import Client
    from netlab.api.cluster import Cluster
    from netlab.policy.explain import Explanation
    from netlab.policy.matrix import Matrix
    from netlab.policy.observe import Objects
    from netlab.policy.ports import Ports

F = TypeVar("F", bound=Callable[..., Any])

_CLOSED = 1
_DIFFERS = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Explain who may talk to whom, and why; or enforce policies outside a lab.

    \b
    netlab policy explain web-5d4f9-x2x7p svc/web:80
    netlab policy show
    netlab policy diff -f deny.yaml
    netlab policy run --kubeconfig ~/.kube/config --hostname-override node-1
    """


def _server_options(command: F) -> F:
    """The options for an API server outside a lab."""
    for option in (
        click.option(
            "--api-socket", type=click.Path(path_type=Path), help="An API server's Unix socket, e.g. a lab's."
        ),
        click.option("--kubeconfig", type=click.Path(path_type=Path), help="The kubeconfig for an API server."),
    ):
        command = option(command)
    return command


@policy.command()
@_server_options
@click.option("--hostname-override", "node", help="The Node's name, if it is not the host's.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="The format of the log.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("/run/netlab/policy"),
    show_default=True,
    help="Where its files are: the socket at which CNI plugins ask, and notes of pods' addresses.",
)
def run(kubeconfig: Path | None, api_socket: Path | None, node: str | None, log_format: Any, directory: Path) -> None:
    """Keep this network namespace's rules in line with an API server's policies, until SIGTERM or SIGINT.

    The rules stay when it ends. Without an option for the API server it uses that of the cluster whose pod it runs in.
    Pods' network plugin must be one that bridges or routes. With `policySocket` in its configuration, netlab's own
    waits for this before a pod starts.
    """
    from netlab.policy.run import EnforcerConfig
    from netlab.proxy import logs

    logs.set_up(log_format)
    name = node or os.uname().nodename.lower()
    # Without IPv6 in the kernel there is nothing to do for it.
    families: Any = ("IPv4", "IPv6") if Path("/proc/net/if_inet6").exists() else ("IPv4",)
    client = _client(kubeconfig, api_socket, f"netlab-policy/{name}")
    unwrapped(_serve(client, EnforcerConfig(name, families, directory)))


async def _serve(client: Client, config: Any) -> None:
    from netlab.policy.run import run as enforce

    async with client:
        serving = asyncio.ensure_future(enforce(client, config))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@policy.command()
@lab_option
@_server_options
@namespace_option
@output_option("json", "yaml")
@source_argument
@destination_argument
def explain(
    lab: Lab,
    kubeconfig: Path | None,
    api_socket: Path | None,
    namespace: str,
    output: str | None,
    source: str,
    destination: str,
) -> None:
    """Explain whether policies let a new connection through. Exits with status 1 if they do not.

    It names the policies that select each end, the rule that admits the other, and otherwise the smallest change that
    would. SOURCE is an address, a pod, node/NAME or outside. DESTINATION is ADDRESS:PORT, POD:PORT,
    svc/NAME[.NAMESPACE]:PORT or node/NAME:PORT, with /udp or /sctp if it is not TCP. Policies see a Service's
    endpoints: each is explained.
    """
    from netlab.api.cluster import ALL, fetch
    from netlab.policy.explain import explain as explained
    from netlab.policy.explain import world
    from netlab.policy.observe import objects
    from netlab.proxy.connection_ends import ends, narrowed

    outside = () if kubeconfig or api_socket else _outside(lab)

    async def read(client: Client) -> tuple[Objects, Cluster]:
        return await objects(client), await fetch(client, ALL)

    known, cluster = ask(_client_of(lab, kubeconfig, api_socket), read)
    named = ends(source, destination, namespace, cluster, outside)
    from_, to, protocol, port = narrowed(named)
    seen = world(known.policies, known.namespaces, known.pods, known.nodes)
    found = [
        explained(seen, from_, address, protocol.upper(), number)
        for address, number in _translated(cluster, named.node or "", to, protocol, port)
    ]
    if output:
        import msgspec

        value(msgspec.to_builtins(found), output)
    else:
        for each in found:
            _print(each)
    if not all(each.allowed for each in found):
        sys.exit(_CLOSED)


@policy.command()
@lab_option
@_server_options
@click.option("-n", "--namespace", help="Only the pods of this namespace.")
@output_option("json", "yaml")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Draw it too: a self-contained HTML page."
)
def show(
    lab: Lab,
    kubeconfig: Path | None,
    api_socket: Path | None,
    namespace: str | None,
    output: str | None,
    report: Path | None,
) -> None:
    """Show who may connect to whom: a row for each source, a column for each destination."""
    from netlab.policy.observe import objects

    known = ask(_client_of(lab, kubeconfig, api_socket), objects)
    found = _matrix(known, None if kubeconfig or api_socket else lab)
    if namespace:
        found = found.about(namespace)
    if report:
        from netlab.report.files import write_page
        from netlab.report.matrix import matrix_page

        write_page(report, matrix_page(f"Who may talk to whom: {lab.name}", found))
    if output:
        value(_rows(found.reached), output)
    else:
        _print_matrix(found)


@policy.command()
@lab_option
@_server_options
@namespace_option
@click.option(
    "-f", "files", multiple=True, required=True, type=click.Path(path_type=Path), help="Manifests; - is stdin."
)
@output_option("json", "yaml")
def diff(
    lab: Lab,
    kubeconfig: Path | None,
    api_socket: Path | None,
    namespace: str,
    files: tuple[Path, ...],
    output: str | None,
) -> None:
    """Show which connections would open or close if manifests were applied. Exits with status 1 if any would.

    Policies, Namespaces and Pods of the manifests count, whatever else there is in them.
    """
    from netlab.api.manifests import load_documents
    from netlab.policy.matrix import changes
    from netlab.policy.observe import objects

    documents = load_documents(list(files))
    known = ask(_client_of(lab, kubeconfig, api_socket), objects)
    of = None if kubeconfig or api_socket else lab
    before, after = _matrix(known, of), _matrix(known.with_documents(documents, namespace), of)
    found = changes(before, after)
    if output:
        value([{**row, **more} for row, more in _differing(found)], output)
    else:
        rows = [[row["source"], row["destination"], more["before"], more["after"]] for row, more in _differing(found)]
        if rows:
            table(("SOURCE", "DESTINATION", "NOW", "THEN"), rows)
        else:
            say("no connection opens or closes")
    if found:
        sys.exit(_DIFFERS)


def _translated(cluster: Cluster, node: str, address: str, protocol: str, port: int) -> list[tuple[str, int]]:
    """Where a node's kube-proxy sends a connection: the endpoints of a Service, or what was dialled.

    Raises NotFoundError for a Service without endpoints: no policy ever sees such a connection.
    """
    from netlab.net.addresses import family_of
    from netlab.proxy.book import plan_of
    from netlab.proxy.plan import Frontend

    target = plan_of(cluster, node, family_of(address)).get(Frontend(address, protocol, port))
    if target is None:
        return [(address, port)]
    if not target.endpoints:
        raise NotFoundError(f"Service {target.service} has no endpoints: the connection ends before any policy")
    return [each.backend for each in target.endpoints]


def _differing(found: dict[Any, tuple[Ports, Ports]]) -> list[tuple[dict[str, str], dict[str, str]]]:
    from netlab.policy.ports import text

    return [(cell._asdict(), {"before": text(old), "after": text(new)}) for cell, (old, new) in found.items()]


def _rows(reached: Any) -> list[dict[str, str]]:
    from netlab.policy.ports import text

    return [
        {"source": cell.source, "destination": cell.destination, "ports": text(ports)}
        for cell, ports in reached.items()
    ]


def _matrix(known: Objects, lab: Lab | None) -> Matrix:
    from netlab.policy.matrix import matrix

    outside = {"outside": _outside(lab)[0]} if lab is not None else {}
    return matrix(known.policies, known.namespaces, known.pods, outside)


def _print_matrix(found: Matrix) -> None:
    from netlab.policy.matrix import Cell, signs

    marks = signs(found)
    cells = {cell: marks[ports].mark for cell, ports in found.reached.items()}
    rows = [
        [str(number), source, *(cells.get(Cell(source, end), "") for end in found.ends)]
        for number, source in enumerate(found.ends, start=1)
    ]
    table(("", "FROM, TO", *(row[0] for row in rows)), rows)
    say("")
    for each in sorted(marks.values()):
        say(f"{each.mark}  {each.text}")


def _print(found: Explanation) -> None:
    say(f"{found.source} -> {found.destination}: {'let through' if found.allowed else 'dropped'}")
    for each in found.judgements:
        rows = [(each.direction.lower(), f"{each.end}: {'admitted' if each.allowed else 'refused'}")]
        rows += [("policies", ", ".join(each.policies))] if each.policies else []
        rows += [("rule", each.rule)] if each.rule else []
        rows += [("because", each.because)]
        rows += [("change", each.change)] if each.change else []
        for name, text in rows:
            say(f"  {name:<8}  {text}")


def _outside(lab: Lab) -> tuple[str, ...]:
    lab.require_up()
    return tuple(lab.spec().outside_addresses)


def _client_of(lab: Lab, kubeconfig: Path | None, api_socket: Path | None) -> Client:
    if kubeconfig or api_socket:
        return _client(kubeconfig, api_socket, "netlab policy")
    lab.require_up()
    return _client(None, lab.paths.api_socket, "netlab policy")


def _client(kubeconfig: Path | None, api_socket: Path | None, user_agent: str) -> Client:
    """A client of the API server: the given one, or that of the cluster this pod runs in."""
    from netlab.api import kubeconfig as kubeconfigs
    from netlab.api.client import Client

    if kubeconfig and api_socket:
        raise UsageError("--kubeconfig and --api-socket both name an API server; leave one out")
    if api_socket:
        return Client(api_socket, user_agent=user_agent)
    return Client(kubeconfigs.load(kubeconfig) if kubeconfig else kubeconfigs.in_cluster(), user_agent=user_agent)
