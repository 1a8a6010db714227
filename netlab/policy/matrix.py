"""Who may talk to whom: all pods against all, by the planner's own plan, and how that differs from another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from netlab.api.core_types import Namespace, Pod
from netlab.policy.book import Book, PodFacts
from netlab.policy.facts import facts
from netlab.policy.model import Model
from netlab.policy.ports import EVERYTHING, NOTHING, Ports, text
from netlab.policy.rules import AnyPolicy, read


class Cell(NamedTuple):
    """A source and a destination, as namespace/name."""

    source: str
    destination: str


class Matrix(NamedTuple):
    """At which ports each end reaches each; an end is a pod, or the name of an address that was added."""

    ends: tuple[str, ...]
    reached: Mapping[Cell, Ports]

    def about(self, namespace: str) -> Matrix:
        """Only the pods of a namespace, and the ends that are no pods."""
        ends = tuple(end for end in self.ends if "/" not in end or end.startswith(f"{namespace}/"))
        return Matrix(ends, {cell: ports for cell, ports in self.reached.items() if set(cell) <= set(ends)})


class Sign(NamedTuple):
    """How a set of ports is shown."""

    mark: str
    text: str


def signs(found: Matrix) -> dict[Ports, Sign]:
    """A mark for each set of ports that occurs: a dot for none, a plus for all, letters for the others."""
    others = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    listed = dict.fromkeys(found.reached[cell] for cell in sorted(found.reached))
    known = {EVERYTHING: Sign("+", "everything"), NOTHING: Sign(".", "nothing")}
    return {ports: known.get(ports) or Sign(next(others, "?"), text(ports)) for ports in listed}


def matrix(
    policies: Iterable[AnyPolicy],
    namespaces: Iterable[Namespace],
    pods: Iterable[Pod],
    others: Mapping[str, str] | None = None,
) -> Matrix:
    """Of all pods that have an address; `others` are further addresses, by a name for each.

    A pod is judged by the first of its addresses. Raises what `netlab.policy.rules.read` raises.
    """
    book = Book()
    for namespace in namespaces:
        book.set_namespace(namespace.metadata.name, namespace.metadata.labels)
    addresses: dict[str, str] = {}
    for pod in pods:
        known: PodFacts = facts(pod)._replace(local=True)
        if known.addresses:
            addresses[pod.key] = known.addresses[0]
            book.set_pod(pod.key, known)
    for policy in policies:
        book.set_policy(policy.key, read(policy))
    book.take_changes()
    model = Model(book.plan, book.profiles)
    ends = dict(sorted(addresses.items())) | dict(others or {})
    reached = {
        Cell(source, destination): model.admits(ends[source], ends[destination])
        for source in ends
        for destination in ends
        if (":" in ends[source]) == (":" in ends[destination])
    }
    return Matrix(tuple(ends), reached)


def changes(before: Matrix, after: Matrix) -> dict[Cell, tuple[Ports, Ports]]:
    """The cells that differ, with what was and what will be. An end that is in one of them alone has everything."""
    cells = dict.fromkeys([*before.reached, *after.reached])
    found = {cell: (before.reached.get(cell, EVERYTHING), after.reached.get(cell, EVERYTHING)) for cell in cells}
    return {cell: (old, new) for cell, (old, new) in found.items() if old != new}
