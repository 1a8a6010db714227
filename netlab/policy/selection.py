"""Which of many selectors match a pod's labels, without a look at each of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from netlab.api.selectors import Selector
from netlab.policy.rules import PodPeers

T = TypeVar("T")


class _Selectors(Generic[T]):
    """Selectors by one label that each asks for."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str], dict[T, Selector]] = {}
        self._others: dict[T, Selector] = {}

    def add(self, item: T, selector: Selector) -> None:
        label = _label(selector)
        for place in [self._others] if label is None else [self._by_label.setdefault(each, {}) for each in label]:
            place[item] = selector

    def discard(self, item: T, selector: Selector) -> None:
        label = _label(selector)
        if label is None:
            self._others.pop(item, None)
            return
        for each in label:
            place = self._by_label.get(each, {})
            place.pop(item, None)
            if not place:
                self._by_label.pop(each, None)

    def find(self, labels: Mapping[str, str]) -> Iterator[T]:
        yield from (item for item, selector in self._others.items() if selector.matches(labels))
        if not self._by_label:
            return
        for label in labels.items():
            for item, selector in self._by_label.get(label, {}).items():
                if len(selector.requirements) == 1 or selector.matches(labels):
                    yield item


def _label(selector: Selector) -> list[tuple[str, str]] | None:
    """The labels of which a pod must have one, by the requirement that names the fewest; None: there is none."""
    named = [each for each in selector.requirements if each.operator == "In"]
    if not named:
        return None
    narrowest = min(named, key=lambda each: len(each.values))
    return [(narrowest.key, value) for value in narrowest.values]


class PodSelection(Generic[T]):
    """Items that select pods, found by the namespace and the labels of a pod."""

    def __init__(self, namespaces: Mapping[str, Mapping[str, str]]) -> None:
        """`namespaces` has each namespace's labels; `namespace_changed` says of each change."""
        self._labels = namespaces
        self._of_namespace: dict[str, _Selectors[T]] = {}
        self._items: dict[T, PodPeers] = {}
        self._wide: dict[T, set[str]] = {}
        """The namespaces of those whose namespaces a selector says."""

    def add(self, item: T, peers: PodPeers) -> None:
        """Add an item that selects those pods."""
        self._items[item] = peers
        if peers.namespaces is not None:
            matched = {name for name, labels in self._labels.items() if peers.namespaces.matches(labels)}
            self._wide[item] = matched
        for name in self.namespaces(item):
            self._of_namespace.setdefault(name, _Selectors()).add(item, peers.pods)

    def discard(self, item: T) -> None:
        """Remove an item."""
        for name in self.namespaces(item):
            self._of_namespace[name].discard(item, self._items[item].pods)
        del self._items[item]
        self._wide.pop(item, None)

    def namespaces(self, item: T) -> set[str]:
        """The namespaces in which an item can select pods."""
        if item in self._wide:
            return self._wide[item]
        name = self._items[item].namespace
        assert name is not None
        return {name}

    def find(self, namespace: str, labels: Mapping[str, str]) -> Iterator[T]:
        """The items that select a pod of that namespace with these labels."""
        selectors = self._of_namespace.get(namespace)
        return selectors.find(labels) if selectors is not None else iter(())

    def namespace_changed(self, name: str) -> bool:
        """Take note of a namespace's labels; whether that concerns any item."""
        labels = self._labels.get(name)
        concerned = False
        for item, matched in self._wide.items():
            peers = self._items[item]
            assert peers.namespaces is not None
            matches = labels is not None and peers.namespaces.matches(labels)
            if matches == (name in matched):
                continue
            concerned = True
            selectors = self._of_namespace.setdefault(name, _Selectors())
            if matches:
                matched.add(name)
                selectors.add(item, peers.pods)
            else:
                matched.discard(name)
                selectors.discard(item, peers.pods)
        return concerned
