"""Records by name, in which each Service can replace its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from netlab.dns.names import ancestors
from netlab.dns.records import Data, Node, Record


class Table:
    """Records by name. The names above one exist too, without records."""

    def __init__(self) -> None:
        self._given: dict[Hashable, dict[Record, None]] = {}
        self._nodes: dict[str, dict[str, Counter[Data]]] = {}
        self._above: Counter[str] = Counter()

    def replace(self, giver: Hashable, records: Iterable[Record]) -> set[str]:
        """Give these records in the place of those that the same giver gave before. The names that have changed."""
        new = dict.fromkeys(records)
        old = self._given.pop(giver, {})
        if new:
            self._given[giver] = new
        # Those that stay keep their places.
        added, removed = [each for each in new if each not in old], [each for each in old if each not in new]
        for record in added:
            self._add(record)
        for record in removed:
            self._remove(record)
        return {record.owner for record in [*added, *removed]}

    def find(self, name: str) -> Node | None:
        """What a name has; None if it does not exist."""
        node = self._nodes.get(name)
        if node is not None:
            return {kind: tuple(data) for kind, data in node.items()}
        return {} if name in self._above else None

    def _add(self, record: Record) -> None:
        node = self._nodes.get(record.owner)
        if node is None:
            node = self._nodes[record.owner] = {}
            self._above.update(ancestors(record.owner))
        # Counted: a pod that is in two headless Services has its address from both.
        node.setdefault(record.type, Counter())[record.data] += 1

    def _remove(self, record: Record) -> None:
        node = self._nodes[record.owner]
        data = node[record.type]
        data[record.data] -= 1
        if not data[record.data]:
            del data[record.data]
        if not data:
            del node[record.type]
        if not node:
            del self._nodes[record.owner]
            for name in ancestors(record.owner):
                self._above[name] -= 1
                if not self._above[name]:
                    del self._above[name]
