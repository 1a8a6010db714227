"""netlab logs."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

import click

from netlab.cli.options import container_option, lab_option, namespace_option
from netlab.cli.suggestions import pods, suggest
from netlab.errors import NotFoundError
from netlab.lab.lab import Lab
from netlab.visible import visible_lines

_POLL = 0.1


@click.command()
@lab_option
@namespace_option
@container_option
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
    from netlab.machine import crilog

    path = _log_path(lab, namespace, pod, container, previous=previous)
    try:
        text, end = logfiles.kept(path)
    except FileNotFoundError:
        what = "no earlier run" if previous else "printed nothing yet"
        raise NotFoundError(f"pod {pod}: its container has {what}") from None
    lines = crilog.text(text).splitlines(keepends=True)
    show = _show_raw if raw or not sys.stdout.isatty() else _Shown()
    for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
        show(line)
    if follow:
        begun = b""
        for chunk in logfiles.grown(path, end, _POLL):
            whole, _, begun = (begun + chunk).rpartition(b"\n")
            show(crilog.text(whole))


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
