"""netlab exec, shell."""

from __future__ import annotations

import os
import shutil
import sys

import click

from netlab.cli.options import container_option, lab_option, namespace_option
from netlab.cli.suggestions import places, suggest
from netlab.lab.lab import Lab


@click.command()
@lab_option
@namespace_option
@container_option
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
@container_option
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
    given = found.surroundings(lab)
    env = given.env if prompt is None else given.env | {"PS1": f"{prompt} # "}
    contained = found.container_id is not None
    return run_joined(pidfd, argv, env=env, cwd=given.cwd, user=given.user, contained=contained)
