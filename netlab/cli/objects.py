"""netlab apply, delete."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netlab.api import resources
from netlab.api.blocking import BlockingClient
from netlab.api.discovered import Kinds
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from netlab.cli import output
from netlab.cli.duration import Duration
from netlab.cli.options import lab_option, namespace_option
from netlab.cli.suggestions import kinds, of_kind, suggest
from netlab.errors import NetlabError, UsageError
from netlab.lab.lab import Lab
from netlab.lab.waiting import Addressed, Target, readiness, targets_of, wait_for, wait_gone

_DELETE_TIMEOUT = 60.0

_FILES = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder of manifests; - is standard input.",
)


@click.command()
@lab_option
@namespace_option
@_FILES
@click.option("--wait", is_flag=True, help="Wait until the objects are ready and all nodes have put them in force.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to --wait.")
def apply(lab: Lab, namespace: str, files: tuple[Path, ...], wait: bool, timeout: float) -> None:
    """Create or change the objects in manifests, all or none.

    Takes Kubernetes manifests unchanged. If one is wrong, it is refused with the path of the field, and nothing
    changes. With --wait, exits with status 8 if they are not ready in time, and the message says why.
    """
    from netlab.api.apply import apply as apply_documents
    from netlab.api.manifests import load_documents

    if not files:
        raise UsageError("apply: give the manifests with -f FILE, or -f - for standard input")
    documents = load_documents(list(files))
    if not documents:
        raise UsageError(f"{', '.join(map(str, files))}: contains no objects")
    client = lab.client()
    done = apply_documents(client, documents, namespace, output.warn)
    for applied in done:
        output.say(f"{applied.resource.singular}/{applied.name} {applied.outcome}")
    if wait:
        _wait_ready(lab, client, [Target(each.resource, each.namespace, each.name) for each in done], timeout)


def _wait_ready(lab: Lab, client: BlockingClient, targets: list[Target], timeout: float) -> None:
    """Wait until what was applied is ready, and in force on all nodes."""
    from netlab.lab import barrier

    deadline = time.monotonic() + timeout
    progress = output.Progress()
    progress("waiting until everything is ready")
    try:
        wait_for(client, targets, readiness, timeout)
        barrier.wait(lab, max(1.0, deadline - time.monotonic()))
    finally:
        progress.done()


@click.command()
@lab_option
@namespace_option
@_FILES
@click.option("-l", "--selector", default="", help="Delete the objects that a label selector matches.")
@click.option("--all", "every", is_flag=True, help="Delete all objects of the kind in the namespace.")
@click.option("--grace-period", type=click.IntRange(min=0), help="Seconds a pod gets to shut down.")
@click.option(
    "--cascade",
    type=click.Choice(("background", "foreground", "orphan")),
    help="Delete their dependents after them (background, the default), before them, or keep them.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until they are gone.")
@click.argument("kind", required=False, shell_complete=kinds)
@click.argument("names", nargs=-1, shell_complete=suggest(of_kind))
def delete(
    lab: Lab,
    namespace: str,
    files: tuple[Path, ...],
    selector: str,
    every: bool,
    grace_period: int | None,
    cascade: str | None,
    wait: bool,
    kind: str | None,
    names: tuple[str, ...],
) -> None:
    """Delete objects, by name or by manifest, and wait until they are gone."""
    client = lab.client()
    if files:
        from netlab.api.apply import targets_of as described
        from netlab.api.manifests import load_documents

        if kind:
            raise UsageError("delete: give either -f FILE or KIND NAME, not both")
        found = described(load_documents(list(files)), namespace, Kinds(lambda: client).by_kind)
        # With a definition its objects would be gone already.
        found.sort(key=lambda each: each.resource is CUSTOMRESOURCEDEFINITIONS)
        targets: Sequence[Addressed] = found
    else:
        targets = _named_targets(lab, namespace, kind, names, selector, every=every)
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if grace_period is not None:
        options["gracePeriodSeconds"] = grace_period
    if cascade is not None:
        options["propagationPolicy"] = cascade.capitalize()
    failure: ApiError | None = None
    # If one of them is no name, nothing is deleted.
    for path, target in [(each.path, each) for each in targets]:
        try:
            client.request("DELETE", path, options)
        except ApiError as error:
            failure = failure or error
            continue
        output.say(f"{target} deleted")
    if wait:
        progress = output.Progress()
        try:
            wait_gone(client, targets, _DELETE_TIMEOUT, progress=progress)
        finally:
            progress.done()
    if failure is not None:
        raise failure


def _named_targets(
    lab: Lab, namespace: str, kind: str | None, names: tuple[str, ...], selector: str, *, every: bool
) -> list[Target]:
    if not kind:
        raise UsageError("delete: give KIND NAME, or manifests with -f FILE")
    wanted = objects_named(lab, kind, names)
    by_name = any(name is not None for _, name in wanted)
    # A selector that selects everything is no selection: who means that says --all.
    ways = [way for way, given in (("name", by_name), ("-l", bool(selector.strip())), ("--all", every)) if given]
    if not ways:
        raise UsageError("delete: name the objects, or select them with -l SELECTOR or --all")
    if len(ways) > 1:
        raise UsageError(f"delete: choose objects by {ways[0]} or by {ways[1]}, not both")
    client = lab.client()
    return [target for resource, name in wanted for target in targets_of(client, resource, namespace, name, selector)]


_WORKLOAD: tuple[Resource[Any], ...] = (
    resources.PODS,
    resources.SERVICES,
    resources.DEPLOYMENTS,
    resources.REPLICASETS,
)


def objects_named(lab: Lab, kind: str, names: tuple[str, ...]) -> list[tuple[Resource[Object], str | None]]:
    """What KIND NAME ..., KIND,KIND or KIND/NAME KIND/NAME ... mean: kinds, each with a name, or None for all of it."""
    known = Kinds(lab.client)
    if "/" in kind:
        return [_one_wanted(known, text) for text in (kind, *names)]
    found: list[Resource[Object]] = []
    for part in kind.split(","):
        found += _WORKLOAD if part.lower() == "all" else (_resource(known, part),)
    return [(resource, name) for resource in found for name in (names or (None,))]


def _one_wanted(known: Kinds, text: str) -> tuple[Resource[Object], str]:
    kind, slash, name = text.partition("/")
    if not slash:
        raise UsageError(f"{text!r}: write each object as KIND/NAME, like the first one")
    return _resource(known, kind), name


def _resource(kinds: Kinds, name: str) -> Resource[Object]:
    try:
        resource = kinds.by_name(name)
    except NetlabError:
        resource = None  # There is no lab that could have it.
    if resource is None:
        near = difflib.get_close_matches(name.lower(), [n for r in resources.ALL for n in (r.plural, r.singular)], n=1)
        known = ", ".join(
            " ".join([r.plural, *(f"({short})" for short in r.short_names)])
            for r in resources.ALL
            if not r.is_stored_only
        )
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no kind {name!r}: {hint}netlab has {known}, and what definitions in the lab add")
    return resource
