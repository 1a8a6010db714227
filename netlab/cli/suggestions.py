"""What completion suggests: names of the lab that a command line refers to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from netlab.errors import NetlabError

if TYPE_CHECKING:
    from netlab.api.discovered import Kinds
    from netlab.api.resources import Resource
    from netlab.lab.lab import Lab

Names = Callable[[click.Context], Iterable[str]]
Complete = Callable[[click.Context, click.Parameter, str], list[str]]

_PATIENCE = 5.0
"""Seconds until there is nothing to suggest: a lab that does not answer must not hold up a shell."""


def suggest(names: Names) -> Complete:
    """The `shell_complete` of a parameter that may be one of these names; a lab that is down has none."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        try:
            given = ctx.params.get(param.name or "")
            taken = given if isinstance(given, tuple) else ()
            return [name for name in names(ctx) if name.startswith(incomplete) and name not in taken]
        except (NetlabError, OSError):
            return []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    return complete


def lab_of(ctx: click.Context) -> Lab:
    """The lab that the command line refers to."""
    from netlab.lab.lab import Lab

    lab: Lab = ctx.params.get("lab") or Lab.of(os.environ.get("NETLAB_NAME", "default"))
    return lab


def objects(ctx: click.Context, resource: Resource[Any]) -> list[dict[str, Any]]:
    """The objects of a kind, of the namespace that the command line gives."""
    path = resource.path(ctx.params.get("namespace", "default"))
    found: list[dict[str, Any]] = lab_of(ctx).client().request("GET", path)["items"]
    return found


def names_of(ctx: click.Context, resource: Resource[Any]) -> list[str]:
    """Their names."""
    return [each["metadata"]["name"] for each in objects(ctx, resource)]


def pods(ctx: click.Context) -> list[str]:
    """The pods."""
    from netlab.api.resources import PODS

    return names_of(ctx, PODS)


def services(ctx: click.Context) -> list[str]:
    """The Services."""
    from netlab.api.resources import SERVICES

    return names_of(ctx, SERVICES)


def namespaces(ctx: click.Context) -> list[str]:
    """The namespaces."""
    from netlab.api.resources import NAMESPACES

    return names_of(ctx, NAMESPACES)


def machines(ctx: click.Context) -> list[str]:
    """The nodes, outside and fabric."""
    from netlab.lab.paths import FABRIC, OUTSIDE

    return [*lab_of(ctx).spec().node_names, OUTSIDE, FABRIC]


def places(ctx: click.Context) -> list[str]:
    """Where a command can run."""
    from netlab.lab.paths import FABRIC, OUTSIDE

    return [*pods(ctx), *(f"node/{name}" for name in lab_of(ctx).spec().node_names), OUTSIDE, FABRIC]


def containers(ctx: click.Context) -> list[str]:
    """The containers of the pod that the command line names."""
    from netlab.api.resources import PODS

    # The parser stops at an option without its value: what stood before it has not found its parameter.
    given = ctx.params.get("place") or ctx.params.get("pod") or next(iter(ctx.args), "")
    name = given.rpartition("/")[2]
    specs = [pod["spec"] for pod in objects(ctx, PODS) if pod["metadata"]["name"] == name]
    return [each["name"] for spec in specs for each in [*spec["containers"], *(spec.get("initContainers") or [])]]


def kinds(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The `shell_complete` of KIND,KIND or KIND/NAME."""
    from netlab.api import resources

    if "/" in incomplete:
        kind, _, name = incomplete.partition("/")

        def named(ctx: click.Context) -> list[str]:
            resource = _known(ctx).by_name(kind)
            return names_of(ctx, resource) if resource is not None else []

        return [f"{kind}/{each}" for each in suggest(named)(ctx, param, name)]
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{each.plural}" for each in resources.ALL if each.plural.startswith(last.lower())]


def of_kind(ctx: click.Context) -> list[str]:
    """The objects of the kinds that the command line names."""
    known = _known(ctx)
    found = [known.by_name(part) for part in str(ctx.params.get("kind") or "").split(",")]
    return [name for resource in found if resource is not None for name in names_of(ctx, resource)]


def _known(ctx: click.Context) -> Kinds:
    from netlab.api.discovered import Kinds

    return Kinds(lambda: lab_of(ctx).client())
