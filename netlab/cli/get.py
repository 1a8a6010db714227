"""netlab get."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.cli import output
from netlab.cli.objects import objects_named
from netlab.cli.options import lab_option, namespace_option, output_option
from netlab.cli.suggestions import kinds, of_kind, suggest
from netlab.errors import UsageError
from netlab.lab.lab import Lab

Json = dict[str, Any]

_AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

_IN_EACH_FAMILY: dict[tuple[str, str], Callable[[Json], list[str]]] = {
    ("Pod", "IP"): lambda pod: [each["ip"] for each in pod.get("status", {}).get("podIPs", ())],
    ("Service", "Cluster-IP"): lambda service: service["spec"].get("clusterIPs", []),
    ("Node", "Internal-IP"): lambda node: [
        each["address"] for each in node.get("status", {}).get("addresses", ()) if each["type"] == "InternalIP"
    ],
}
"""The addresses of which the API server's column has the first alone, by a kind and that column."""


@dataclasses.dataclass
class _Shown:
    """The objects of a kind, and the table that the API server makes of them (metav1.Table)."""

    resource: Resource[Object]
    columns: list[Json] = dataclasses.field(default_factory=list)
    rows: list[Json] = dataclasses.field(default_factory=list)

    @property
    def objects(self) -> list[Json]:
        return [row["object"] for row in self.rows]

    def add(self, table: Json) -> None:
        self.columns = table["columnDefinitions"]
        self.rows += table["rows"]
        for row in table["rows"]:
            row["object"]["metadata"].pop("managedFields", None)  # For programs; kubectl shows them if asked to.

    def print(self, *, wide: bool, several: bool, with_namespace: bool) -> None:
        columns = [(index, each) for index, each in enumerate(self.columns) if wide or not each["priority"]]
        lines = [[each["name"].upper() for _, each in columns]]
        for row in self.rows:
            cells = [_cell(self.resource.kind, each["name"], row["object"], row["cells"][i]) for i, each in columns]
            if several:
                # As kubectl: an Event's name is shown with -o wide alone.
                named = next((at for at, (_, each) in enumerate(columns) if each["format"] == "name"), None)
                if named is not None:
                    cells[named] = f"{self.resource.singular}/{cells[named]}"
            lines.append(cells)
        if with_namespace and self.resource.namespaced:
            namespaces = ["NAMESPACE", *(obj["metadata"]["namespace"] for obj in self.objects)]
            lines = [[namespace, *cells] for namespace, cells in zip(namespaces, lines, strict=True)]
        output.table(lines[0], lines[1:])


def _cell(kind: str, column: str, obj: Json, cell: Any) -> str:
    both = _IN_EACH_FAMILY.get((kind, column))
    if both is not None and (addresses := both(obj)):
        return ",".join(addresses)
    if cell is None:
        return ""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


@click.command()
@lab_option
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Show objects in all namespaces.")
@click.option("-l", "--selector", default="", help="A label selector, e.g. app=web,tier!=db.")
@output_option("json", "yaml", "wide", "name")
@click.argument("kind", shell_complete=kinds)
@click.argument("names", nargs=-1, shell_complete=suggest(of_kind))
def get(
    lab: Lab,
    namespace: str,
    all_namespaces: bool,
    selector: str,
    output: str | None,
    kind: str,
    names: tuple[str, ...],
) -> None:
    """Show objects in kubectl's columns, with the addresses of both families; or as the API server has them.

    KIND is a kind, its plural or its short name (pods, svc, deploy), or KIND/NAME. Join several with commas; `all`
    means every kind that a workload uses.
    """
    wanted = objects_named(lab, kind, names)
    is_named = any(name is not None for _, name in wanted)
    if is_named and (all_namespaces or selector):
        raise UsageError(f"get: choose objects by name or with {'-A' if all_namespaces else '-l'}, not both")
    every = None if all_namespaces else namespace
    paths = {each.path(every) if name is None else each.object_path(namespace, name): each for each, name in wanted}
    client = lab.client()
    params = {"includeObject": "Object"} | ({"labelSelector": selector} if selector else {})
    shown: dict[Resource[Object], _Shown] = {}
    for path, resource in paths.items():
        table = client.request("GET", path, params=params, accept=_AS_TABLE)
        shown.setdefault(resource, _Shown(resource)).add(table)
    _show(list(shown.values()), output, single=is_named and len(wanted) == 1, all_namespaces=all_namespaces)


def _show(shown: list[_Shown], form: str | None, *, single: bool, all_namespaces: bool) -> None:
    found = [obj for each in shown for obj in each.objects]
    if form in ("json", "yaml"):
        output.value(found[0] if single else {"apiVersion": "v1", "kind": "List", "items": found}, form)
        return
    if form == "name":
        for each in shown:
            for obj in each.objects:
                output.say(f"{each.resource.singular}/{obj['metadata']['name']}")
        return
    if not found:
        click.echo("No resources found.", err=True)
    filled = [each for each in shown if each.rows]
    for index, each in enumerate(filled):
        if index:
            click.echo()
        each.print(wide=form == "wide", several=len(filled) > 1, with_namespace=all_namespaces)
