"""netlab scenario list, new, run, show."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from netlab.cli import output as written
from netlab.cli.folders import require_writable
from netlab.cli.options import lab_option, output_option
from netlab.errors import UsageError
from netlab.lab.lab import Lab
from netlab.visible import visible_lines

if TYPE_CHECKING:
    from netlab.lab.spec import LabSpec
    from netlab.scenario.definition import Scenario
    from netlab.scenario.results import Result

_PCAP_DIR = Path("netlab-out")


def _complete(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    from click.shell_completion import CompletionItem

    from netlab.lab.paths import scenarios_dir

    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="dir")]
    names = ["all", *sorted(path.parent.name for path in scenarios_dir().glob("*/scenario.yaml"))]
    taken = ctx.params.get(param.name or "") or ()
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in taken]


@click.group()
def scenario() -> None:
    """Run lessons that prove how each kind of traffic works."""


@scenario.command("list")
@output_option("json", "yaml", "wide")
def list_scenarios(output: str | None) -> None:
    """List the scenarios that come with netlab."""
    from netlab.scenario.definition import shipped

    values = [
        {
            "name": each.name,
            "traffic": each.header.traffic,
            "checks": len(each.checks),
            "nodes": each.header.nodes,
            "title": each.header.title,
            "folder": str(each.folder),
        }
        for each in shipped()
    ]
    if output in ("json", "yaml"):
        written.value(values, output)
        return
    keys = ["name", "traffic", "checks", *(["nodes"] if output == "wide" else []), "title"]
    keys += ["folder"] if output == "wide" else []
    written.table([key.upper() for key in keys], [[str(value[key]) for key in keys] for value in values])


@scenario.command()
@click.argument("name", shell_complete=_complete)
def show(name: str) -> None:
    """Show a scenario's text and its checks."""
    from rich.console import Console
    from rich.markdown import Markdown

    from netlab.scenario.definition import find

    for each in find([name]):
        checks = "\n".join(f"- {check.title}" for check in each.checks)
        text = visible_lines(f"{each.text.rstrip()}\n\n## What is checked\n\n{checks}\n")
        console = Console()
        if console.is_terminal:
            console.print(Markdown(text))
        else:
            click.echo(text, nl=False)


@scenario.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="NAME")
def new(folder: Path) -> None:
    """Make the folder of a scenario of your own, which passes as it is.

    NAME is its name, or a path that ends with it. Nothing that is there is replaced.

    \b
    netlab scenario new mine
    netlab scenario run ./mine
    """
    from netlab.scenario.creation import create

    for path in create(folder):
        click.echo(path)
    shown = folder if "/" in str(folder) else f"./{folder}"
    click.echo(f"now run it: netlab scenario run {shlex.quote(str(shown))}", err=True)


@scenario.command()
@lab_option
@click.argument("names", shell_complete=_complete, nargs=-1, required=True, metavar="NAME|all|PATH...")
@click.option("--matrix", is_flag=True, help="Run in a lab for each network, proxy and family (12).")
@click.option("--network", type=click.Choice(["vxlan", "routed", "bridge"]), help="The temporary lab's pod network.")
@click.option("--proxy", type=click.Choice(["nftables", "iptables"]), help="The temporary lab's kube-proxy mode.")
@click.option("--ipv6", "families", flag_value="IPv6", help="Use a temporary lab with IPv6 only.")
@click.option("--dual-stack", "families", flag_value="IPv4,IPv6", help="Use a temporary lab with IPv4 and IPv6.")
@click.option("--keep", is_flag=True, help="Keep the scenarios' objects, and a temporary lab, for inspection.")
@click.option(
    "--pcap-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=_PCAP_DIR,
    show_default=True,
    help="Where to write the captures.",
)
@click.option(
    "--report",
    "report_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write an HTML report to this directory: text, checks, ladder diagrams, and copies of the captures.",
)
@output_option("json")
@click.pass_context
def run(
    ctx: click.Context,
    lab: Lab,
    names: tuple[str, ...],
    matrix: bool,
    network: str | None,
    proxy: str | None,
    families: str | None,
    keep: bool,
    pcap_dir: Path,
    report_dir: Path | None,
    output: str | None,
) -> None:
    """Run scenarios: by name, all of them, or a folder of your own.

    They run in the lab given with --name if it is up; otherwise, or with options that describe a lab, in a temporary
    one. Exits with status 9 if a check failed, and with 11 if none failed but some could not run because of an error
    in checks.py or in the lab, which says nothing about the network.

    \b
    netlab scenario run all --report report
    netlab scenario run ./mine --network routed --ipv6
    """
    from netlab.lab.spec import from_values
    from netlab.scenario.definition import find
    from netlab.scenario.interruption import interruptible
    from netlab.scenario.labs import needed_nodes
    from netlab.scenario.results import require_none_failed

    scenarios = find(list(names))
    given = {"network": network, "proxy": proxy, "families": families and families.split(",")}
    values = {key: value for key, value in given.items() if value is not None}
    named = ctx.get_parameter_source("lab") == ParameterSource.COMMANDLINE
    if named and (values or matrix):
        raise UsageError("--name runs in an existing lab; leave out --matrix, --network, --proxy, ...")
    if matrix and (values or keep):
        raise UsageError("--matrix makes its own labs; leave out --network, --proxy, --ipv6, ... and --keep")
    if named:
        lab.require_up()
    _require_writable(pcap_dir, [each.name for each in scenarios])
    if report_dir is not None:
        from netlab.report import files, site

        require_writable(report_dir, "--report")
        files.require_writable(report_dir / site.INDEX)  # now, rather than after all the runs
    began = time.monotonic()
    with interruptible():
        if matrix:
            results = _run_matrix(scenarios, pcap_dir, quiet=output is not None)
        else:
            spec = from_values({**values, "nodes": needed_nodes(scenarios)})
            chosen = lab if not values and lab.is_up() else None
            results = _run(scenarios, chosen, spec, pcap_dir, keep=keep, quiet=output is not None)
    if report_dir is not None:
        index = site.write(report_dir, scenarios, results, time.monotonic() - began)
        click.echo(f"report: {index}", err=True)
    if output is not None:
        import msgspec

        written.value(msgspec.to_builtins(results), output)
    require_none_failed(results)


def _require_writable(pcap_dir: Path, names: Sequence[str]) -> None:
    """Before anything starts: an earlier run's folders may be another user's, though the one above is not."""
    for name in names:
        folder = pcap_dir / name
        for each in (folder, *(sub for sub in folder.glob("*") if sub.is_dir())):
            require_writable(each, "--pcap-dir")


def _run(
    scenarios: Sequence[Scenario], lab: Lab | None, spec: LabSpec, pcap_dir: Path, *, keep: bool, quiet: bool
) -> list[Result]:
    """In `lab`, or in a temporary one made to `spec`."""
    from netlab.scenario.report import Account
    from netlab.scenario.runner import Observer
    from netlab.scenario.runner import run as run_scenarios

    began = time.monotonic()
    progress = written.Progress()
    account = None if quiet else Account(_console(), progress)
    with _lab(lab, spec, progress, keep=keep) as chosen:
        progress.done()
        results = run_scenarios(scenarios, chosen, pcap_dir, account or Observer(), keep=keep)
    if account is not None:
        account.summary(results, time.monotonic() - began, pcap_dir)
    if keep:
        click.echo(f"kept: `netlab get all -A --name {chosen.name}` shows the scenarios' objects", err=True)
    return results


@contextlib.contextmanager
def _lab(lab: Lab | None, spec: LabSpec, progress: written.Progress, *, keep: bool) -> Iterator[Lab]:
    from netlab.scenario.labs import temporary

    try:
        if lab is not None:
            yield lab
            return
        with temporary(spec, progress, keep=keep) as made:
            yield made
    finally:
        progress.done()


def _run_matrix(scenarios: Sequence[Scenario], pcap_dir: Path, *, quiet: bool) -> list[Result]:
    from netlab.scenario.labs import matrix, needed_nodes, run_matrix
    from netlab.scenario.report import Account

    began = time.monotonic()
    progress = written.Progress()
    account = None if quiet else Account(_console(), progress)
    specs = matrix(needed_nodes(scenarios))
    total = len(specs) * len(scenarios)
    done = 0

    def told(result: Result) -> None:
        nonlocal done
        done += 1
        if account is not None:
            account.told(result)
        progress(f"{done} of {total} runs")

    progress(f"0 of {total} runs")
    try:
        results = run_matrix(scenarios, specs, pcap_dir, told)
    finally:
        progress.done()
    if account is not None:
        account.summary(results, time.monotonic() - began, pcap_dir)
    return results


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)
