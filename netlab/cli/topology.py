"""netlab topology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from netlab.cli.options import lab_option, output_option
from netlab.lab.lab import Lab

if TYPE_CHECKING:
    from netlab.trace.wiring import Interface, Machine

_COLUMN = 23
"""The column in which an interface's details begin: behind the longest name that the kernel allows."""


@click.command()
@lab_option
@output_option("json", "yaml")
def topology(lab: Lab, output: str | None) -> None:
    """Show a lab's machines, pods and interfaces, and what each is wired to.

    It is read from the kernel: what is not there is not shown. With -o json it is a description for programs.
    """
    from netlab.lab.network_envoy import NetworkEnvoy
    from netlab.trace.reading import read_namespaces
    from netlab.trace.wiring import machines

    spec = lab.spec()
    with NetworkEnvoy(lab) as envoy:
        found = machines(read_namespaces(envoy))
    if output:
        import msgspec

        from netlab.cli.output import value

        about = {"lab": lab.name, "network": spec.network, "proxy": spec.proxy, "families": list(spec.families)}
        value({**about, "machines": msgspec.to_builtins(found)}, output)
        return
    from netlab.cli.wrapping import width, wrapped
    from netlab.visible import visible

    columns = width()
    for line, indent in lines(found):
        for each in wrapped(visible(line), columns, indent):
            click.echo(each)


def lines(found: Sequence[Machine]) -> Iterator[tuple[str, int]]:
    """The tree, line by line, each with the columns that what does not fit is indented by."""
    for machine in found:
        yield machine.name, 0
        yield from _tree(machine.interfaces, "", more=bool(machine.pods))
        for number, pod in enumerate(machine.pods):
            last = number == len(machine.pods) - 1
            yield f"{'└' if last else '├'}─ pod {pod.name}", 3
            yield from _tree(pod.interfaces, "   " if last else "│  ", more=False)


def _tree(interfaces: Sequence[Interface], margin: str, *, more: bool) -> Iterator[tuple[str, int]]:
    """A bridge has its ports below it."""
    shown = [each for each in interfaces if each.kind != "loopback" and not each.bridge]
    by_name = {each.name: each for each in interfaces}
    for number, each in enumerate(shown):
        last = number == len(shown) - 1 and not more
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield _line(each, f"{margin}{branch}")
        for count, port in enumerate(each.ports, start=1):
            yield _line(by_name[port], f"{margin}{below}{'└─ ' if count == len(each.ports) else '├─ '}")


def _line(one: Interface, margin: str) -> tuple[str, int]:
    parts = []
    if not one.up:
        parts.append("down")
    if one.kind not in ("veth", ""):
        parts.append("bridge" if one.kind == "bridge" else one.kind if one.vxlan is None else f"VXLAN {one.vxlan.vni}")
    parts += [each for each in one.addresses if not each.startswith("fe80:")]
    if one.vxlan is not None:
        remotes = f" to {', '.join(one.vxlan.remotes)}" if one.vxlan.remotes else ""
        parts.append(f"from {one.vxlan.local or 'any address'}{remotes}, port {one.vxlan.port}")
    if one.peer is not None:
        parts.append(f"── {one.peer.owner} {one.peer.interface}")
    return f"{margin + one.name:<{_COLUMN - 1}} {'  '.join(parts)}".rstrip(), _COLUMN
