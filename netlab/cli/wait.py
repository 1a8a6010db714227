"""netlab wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from netlab.cli.duration import Duration
from netlab.cli.options import lab_option, namespace_option
from netlab.cli.output import say
from netlab.errors import NotFoundError, UsageError
from netlab.lab.lab import Lab

if TYPE_CHECKING:
    from netlab.lab.waiting import Addressed, Met


@click.command()
@lab_option
@namespace_option
@click.option("--for", "wanted", metavar="WHAT", help="condition=TYPE[=STATUS], jsonpath={.FIELD}=VALUE, or delete.")
@click.option("-l", "--selector", default="", help="Those that a label selector matches.")
@click.option("--all", "every", is_flag=True, help="All objects of the kind in the namespace.")
@click.option("--synced", is_flag=True, help="Wait until all nodes have put in force what was done until now.")
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="Seconds, or such as 1m30s.")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1)
def wait(
    lab: Lab,
    namespace: str,
    wanted: str | None,
    selector: str,
    every: bool,
    synced: bool,
    timeout: float,
    kind: str | None,
    names: tuple[str, ...],
) -> None:
    """Wait for objects, or until all nodes have put in force what was done until now.

    The exit status is 8 when that takes longer than --timeout; the message says what is missing and why.

    \b
    netlab wait pod/web --for=condition=Ready
    netlab wait deployment/web --for=condition=Available --timeout=1m
    netlab wait pods -l app=web --for=delete
    netlab wait pod/web --for=jsonpath='{.status.phase}'=Running
    netlab wait --synced
    """
    if wanted is None and kind is not None:
        raise UsageError("wait: say what for: --for=condition=Ready or --for=delete")
    if wanted is not None and kind is None:
        raise UsageError("wait: name the objects: KIND/NAME, or KIND with -l SELECTOR or --all")
    if wanted is None and not synced:
        raise UsageError("wait: give KIND/NAME and --for=condition=TYPE or --for=delete, or --synced")
    if kind is not None and wanted is not None:
        _wait_for(lab, namespace, kind, names, wanted, selector, timeout, every=every)
    if synced:
        from netlab.lab import barrier

        revision = barrier.wait(lab, timeout)
        click.echo(f"lab {lab.name}: synced at revision {revision}")


def _wait_for(
    lab: Lab,
    namespace: str,
    kind: str,
    names: Sequence[str],
    wanted: str,
    selector: str,
    timeout: float,
    *,
    every: bool,
) -> None:
    from netlab.cli.objects import objects_named
    from netlab.lab import waiting

    met = _met(wanted)
    objects = objects_named(lab, kind, tuple(names))
    named = any(name is not None for _, name in objects)
    if named + bool(selector.strip()) + every != 1:
        raise UsageError("wait: name the objects, or say which by -l SELECTOR, or --all")
    client = lab.client()
    targets = [
        target
        for resource, name in objects
        for target in waiting.targets_of(client, resource, namespace, name, selector)
    ]

    def told(target: Addressed) -> None:
        say(f"{target} condition met")

    if met is None:
        waiting.wait_gone(client, targets, timeout, told)
    elif not targets:
        which = f" with {selector}" if selector else ""
        raise NotFoundError(f"wait: there are no {kind}{which} in namespace {namespace}")
    else:
        waiting.wait_for(client, targets, met, timeout, told)


def _met(wanted: str) -> Met | None:
    """What --for says; None is deletion."""
    from netlab.lab import waiting

    if wanted == "delete":
        return None
    if found := re.fullmatch(r"condition=([^=]+)(?:=(.+))?", wanted):
        return waiting.condition(found[1], found[2] or "True")
    if found := re.fullmatch(r"jsonpath=\{((?:\.\w+)+)\}=(.+)", wanted):
        return waiting.field(found[1], found[2])
    raise UsageError(
        f"wait: --for={wanted}: write condition=TYPE[=STATUS], jsonpath={{.FIELD.FIELD}}=VALUE or delete after --for="
    )
