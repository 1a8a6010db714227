"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from netlab.api.resources import path_segment
from netlab.cli.suggestions import containers, namespaces, suggest
from netlab.lab.lab import Lab, all_labs

F = TypeVar("F", bound=Callable[..., Any])


class _LabType(click.ParamType[Lab]):
    name = "LAB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Lab:
        return value if isinstance(value, Lab) else Lab.of(value)


NODE_NAME = _LabType()
"""The name of a node that joins another cluster: it is a lab of that name."""


def lab_option(command: F) -> F:
    """`--name`: which lab."""
    return click.option(
        "--name",
        "lab",
        type=_LabType(),
        default="default",
        envvar="NETLAB_NAME",
        show_default=True,
        show_envvar=True,
        shell_complete=suggest(lambda _: [lab.name for lab in all_labs()]),
        help="The lab's name.",
    )(command)


class NamespaceType(click.ParamType[str]):
    """The name of a namespace."""

    name = "NAMESPACE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; raises `UsageError` for what cannot be one."""
        return path_segment("namespace", str(value))


def namespace_option(command: F) -> F:
    """`-n`: which namespace."""
    return click.option(
        "-n",
        "--namespace",
        type=NamespaceType(),
        default="default",
        show_default=True,
        shell_complete=suggest(namespaces),
        help="The namespace.",
    )(command)


def container_option(command: F) -> F:
    """`-c`: which container of a pod."""
    return click.option(
        "-c", "--container", shell_complete=suggest(containers), help="The container.  [default: the pod's first]"
    )(command)


def output_option(*choices: str) -> Callable[[F], F]:
    """`-o`: the format of a listing."""
    return click.option(
        "-o", "--output", type=click.Choice(choices or ("json", "yaml", "wide")), help="The format, instead of a table."
    )
