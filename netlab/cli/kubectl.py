"""netlab kubeconfig, kubectl."""

from __future__ import annotations

import os
import shutil

import click

from netlab.cli.options import lab_option
from netlab.errors import UnsupportedError
from netlab.lab.lab import Lab


@click.command()
@lab_option
def kubeconfig(lab: Lab) -> None:
    """Print a kubeconfig for a lab, with an administrator's certificate.

    The API is at a port of this host's loopback that a lab keeps.

    \b
    netlab kubeconfig > lab.kubeconfig
    kubectl --kubeconfig lab.kubeconfig get nodes
    """
    from netlab.lab import access

    click.echo(access.text(access.kubeconfig(lab)), nl=False)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@lab_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(lab: Lab, arguments: tuple[str, ...]) -> None:
    """Run the kubectl on the PATH for a lab; exits with its status.

    Options of netlab's come first; from the first other word on everything is kubectl's.

    \b
    netlab kubectl get pods -A
    netlab kubectl --name other describe node node-1
    """
    from netlab.lab import access

    program = shutil.which("kubectl")
    if program is None:
        raise UnsupportedError(
            "there is no kubectl on the PATH: install it (https://kubernetes.io/docs/tasks/tools), or use `netlab get`"
        )
    config = access.text(access.kubeconfig(lab)).encode()
    # In memory: nothing is left on a disk, and nobody else can have put a program in it.
    memory = os.memfd_create("kubeconfig", 0)
    with os.fdopen(os.dup(memory), "wb") as file:
        file.write(config)
    environment = os.environ | {"KUBECONFIG": f"/proc/self/fd/{memory}"}
    os.execve(program, ["kubectl", *arguments], environment)  # noqa: S606 - no shell is the point
