"""netlab exec, shell, logs."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
from pathlib import Path

import click

from netlab.cli.options import lab_option, namespace_option
from netlab.cli.suggestions import containers, places, pods, suggest
from netlab.errors import NotFoundError
from netlab.lab.lab import Lab
from netlab.visible import visible_lines

_POLL = 0.1


_CONTAINER = click.option(
    "-c", "--container", shell_complete=suggest(containers), help="The container.  [default: the pod's first]"
)


@click.command()
@lab_option
@namespace_option
@_CONTAINER
@click.argument("place", shell_complete=suggest(places))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(lab: Lab, namespace: str, container: str | None, place: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod, on a node or in the outside world; exits with its status.

    \b
    netlab exec web-5d4f9-x2x7p -- ip address
    netlab exec web-5d4f9-x2x7p -c sidecar -- ss -tln
    netlab exec node/node-1 -- nft list ruleset
    netlab exec outside -- curl -sw '\\n' 192.0.2.1:30080/hostname
    """
    argv = list(command[1:] if command[0] == "--" else command)
    if not argv:
        raise click.UsageError("write the command after --")
    sys.exit(_run(lab, place, namespace, container, argv))


@click.command()
@lab_option
@namespace_option
@_CONTAINER
@click.argument("place", shell_complete=suggest(places))
def shell(lab: Lab, namespace: str, container: str | None, place: str) -> None:
    """Open a shell in a pod, on a node or in the outside world."""
    program = next((p for p in (os.environ.get("SHELL"), "bash", "sh") if p and shutil.which(p)), "sh")
    sys.exit(_run(lab, place, namespace, container, [program], prompt=place))


def _run(
    lab: Lab, place: str, namespace: str, container: str | None, argv: list[str], prompt: str | None = None
) -> int:
    from netlab.lab.places import resolve
    from netlab.machine.join import run_joined

    found = resolve(lab, place, namespace, container)
    pidfd = found.open(lab)
    environment, folder = found.environment(lab)
    if prompt is not None:
        environment["PS1"] = f"{prompt} # "
    return run_joined(pidfd, argv, env=environment, cwd=folder, contained=found.container_id is not None)


@click.command()
@lab_option
@namespace_option
@_CONTAINER
@click.option("-f", "--follow", is_flag=True, help="Keep printing as more comes, until the container ends.")
@click.option("-p", "--previous", is_flag=True, help="Show the output of the run before the last restart.")
@click.option("--tail", type=click.IntRange(min=0), help="Show only the last lines.")
@click.option("--raw", is_flag=True, help="Write it as it is to a terminal too, colours and other controls included.")
@click.argument("pod", shell_complete=suggest(pods))
def logs(
    lab: Lab, namespace: str, container: str | None, follow: bool, previous: bool, tail: int | None, raw: bool, pod: str
) -> None:
    """Show what a pod's container printed.

    A pipe or a file gets it as it is. On a terminal, what would control it is made visible: ESC is shown as \\x1b.
    """
    from netlab.lab import logfiles

    path = _log_path(lab, namespace, pod, container, previous=previous)
    try:
        text, end = logfiles.kept(path)
    except FileNotFoundError:
        what = "no earlier run" if previous else "printed nothing yet"
        raise NotFoundError(f"pod {pod}: its container has {what}") from None
    lines = text.splitlines(keepends=True)
    show = _show_raw if raw or not sys.stdout.isatty() else _Shown()
    for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
        show(line)
    if follow:
        for chunk in logfiles.grown(path, end, _POLL):
            show(chunk)


def _show_raw(data: bytes) -> None:
    click.echo(data, nl=False)


class _Shown:
    """Writes a log to a terminal; a character may come in two parts."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def __call__(self, data: bytes) -> None:
        # A carriage return before the end of a line does nothing.
        click.echo(visible_lines(self._decoder.decode(data).replace("\r\n", "\n")), nl=False)


def _log_path(lab: Lab, namespace: str, pod: str, container: str | None, *, previous: bool) -> Path:
    from netlab.lab.places import choose_container, find_pod
    from netlab.node.logs import log_path

    found = find_pod(lab.client(), pod.removeprefix("pod/"), namespace)
    chosen = choose_container(found, container)
    statuses = [*found.status.containerStatuses, *found.status.initContainerStatuses]
    run = next((s.restartCount for s in statuses if s.name == chosen), 0)
    return log_path(lab.paths.pod_logs, found, chosen, run - 1 if previous else run)
