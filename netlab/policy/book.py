"""The plan of a node's enforcer, as policies, pods and namespaces come and go. Pure.

What a change costs follows from what it changes: a pod's labels from the selectors in use in its namespace, a policy
from the pods of its node that it selects and the peers that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from netlab.policy.plan import PLACES, Plan, Profiles, Transaction
from netlab.policy.rules import DIRECTIONS, Direction, PodPort, Policy
from netlab.policy.selection import PodSelection
from netlab.policy.side import ProfileBook, Side, Sign


class PodFacts(NamedTuple):
    """What decides about a pod's connections."""

    namespace: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...] = ()
    """None of a pod without a network of its own, or with one that has ended."""
    local: bool = False
    """It is on the node whose plan this is."""
    ports: tuple[PodPort, ...] = ()
    claim: tuple[bool, str] = (False, "")
    """Of two pods with the same address, that with the greater claim has it: one that goes on, and the later one."""


class Book:
    """What is known, and the plan that follows from it once changes are taken."""

    def __init__(self) -> None:
        self.plan: Plan = {place: {} for place in PLACES}
        self._profile_book = ProfileBook()
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._pods: dict[str, PodFacts] = {}
        self._pods_of: dict[str, dict[str, None]] = {}
        self._claims: dict[str, dict[str, None]] = {}
        """By address: the pods that claim it."""
        self._policies: dict[str, Policy] = {}
        self._subjects: PodSelection[str] = PodSelection(self._namespaces)
        self._sides: dict[Direction, Side] = {
            direction: Side(direction, self._namespaces, self.plan, self._profile_book) for direction in DIRECTIONS
        }
        self._judged: dict[str, tuple[str, ...]] = {}
        """The addresses of each of the node's own pods."""
        self._unjudged: dict[str, None] = {}
        """Pods of the node about which it is to be found out again which policies select them."""

    @property
    def profiles(self) -> Profiles:
        """The profiles that the plan leads to."""
        return self._profile_book.profiles

    # --- What is known -----------------------------------------------------------------------------------------

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace has these labels (None: it is gone)."""
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        pods = self._pods_of.get(name, {})
        if self._subjects.namespace_changed(name):
            self._unjudged.update(pods)
        for side in self._sides.values():
            if side.selection.namespace_changed(name):
                side.stale.update(pods)

    def set_policy(self, key: str, policy: Policy | None) -> None:
        """A policy says this (None: it is gone)."""
        before = self._policies.pop(key, None)
        concerned: set[str] = set()
        if before is not None:
            concerned |= self._subjects.namespaces(key)
            self._subjects.discard(key)
        if policy is not None:
            self._policies[key] = policy
            self._subjects.add(key, policy.subject)
            concerned |= self._subjects.namespaces(key)
        for namespace in concerned:
            self._unjudged.update(self._pods_of.get(namespace, {}))

    def set_pod(self, key: str, pod: PodFacts | None) -> None:
        """A pod is like this (None: it is gone)."""
        before = self._pods.get(key)
        if before == pod:
            return
        if before is not None:
            del self._pods_of[before.namespace][key]
        if pod is None:
            del self._pods[key]
        else:
            self._pods[key] = pod
            self._pods_of.setdefault(pod.namespace, {})[key] = None
        self._touch(key)
        for address in (*(before.addresses if before else ()), *(pod.addresses if pod else ())):
            claims = self._claims.setdefault(address, {})
            for other in claims:  # which of them has the address may have changed
                self._touch(other)
            if pod is not None and address in pod.addresses:
                claims[key] = None
            else:
                claims.pop(key, None)
            if not claims:
                del self._claims[address]

    def _touch(self, key: str) -> None:
        self._unjudged[key] = None
        for side in self._sides.values():
            side.stale[key] = None

    # --- What follows ------------------------------------------------------------------------------------------

    def take_changes(self) -> Transaction:
        """The difference from the plan at the last call."""
        for key in self._unjudged:
            self._judge(key)
        self._unjudged.clear()
        for side in self._sides.values():
            self._settle(side)
        changes = {
            place: {key: (old, new) for key, old in before.items() if old != (new := self.plan[place].get(key))}
            for side in self._sides.values()
            for place, before in side.take().items()
        }
        profiles = {
            number: (was, now)
            for number, was in self._profile_book.take_before().items()
            if was != (now := self.profiles.get(number))
        }
        unused = {direction: side.take_unused() for direction, side in self._sides.items()}
        return Transaction({place: changed for place, changed in changes.items() if changed}, profiles, unused)

    def _judge(self, key: str) -> None:
        """Find out which policies select a pod of the node, and let its addresses judge by them."""
        pod, before = self._pods.get(key), self._judged.pop(key, ())
        addresses = self._addresses(key, pod) if pod is not None and pod.local else ()
        for address in before:
            if address not in addresses and self._owner(address) not in self._judged:
                for side in self._sides.values():
                    side.pass_over(address)
        if pod is None or not addresses:
            return
        self._judged[key] = addresses
        found = {self._policies[each] for each in self._subjects.find(pod.namespace, pod.labels)}
        policies = sorted(found, key=lambda policy: policy.precedence)
        for direction, side in self._sides.items():
            isolating = tuple(each for each in policies if direction in each.rules)
            ports = pod.ports if direction == "Ingress" else ()
            for address in addresses:
                if isolating:
                    side.judge(address, isolating, ports)
                else:
                    side.pass_over(address)

    def _settle(self, side: Side) -> None:
        side.unused()
        for group in side.new_groups:
            for namespace in side.selection.namespaces(group):
                side.stale.update(self._pods_of.get(namespace, {}))
        if side.names_changed():
            side.stale.update((key, None) for key, pod in self._pods.items() if pod.ports)
        for key in side.stale:
            pod = self._pods.get(key)
            addresses = self._addresses(key, pod) if pod is not None else ()
            signs: set[Sign] = set()
            if pod is not None and addresses:
                signs.update(side.selection.find(pod.namespace, pod.labels))
                signs.update(port for port in pod.ports if (port.name, port.protocol) in side.names)
            side.sign(key, frozenset(signs), addresses)
        side.stale.clear()
        side.settle()

    def _owner(self, address: str) -> str | None:
        claims = self._claims.get(address)
        if not claims:
            return None
        return next(iter(claims)) if len(claims) == 1 else max(claims, key=lambda key: (self._pods[key].claim, key))

    def _addresses(self, key: str, pod: PodFacts) -> tuple[str, ...]:
        return tuple(address for address in pod.addresses if self._owner(address) == key)
