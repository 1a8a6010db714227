"""From frontends to elements, and from a change of plan to its batch. Pure."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import itertools
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from netlab.net.addresses import Family
from netlab.net.nftables.batch import Batch, Elements, Lists, Value, listed, numbered
from netlab.net.nftables.elements import Verdict, drop, goto
from netlab.net.nftables.schemas import NUMBERS
from netlab.proxy.nftables.chains import Pick, PlannedChain, Remember, remember, sticky
from netlab.proxy.nftables.contents import Contents
from netlab.proxy.nftables.fixed import ADDRESS_FAMILY, Layout
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target, Transaction
from netlab.proxy.plan import Verdict as Outcome

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class _Lowered:
    """What some frontends need."""

    own: Elements = dataclasses.field(default_factory=lambda: defaultdict(dict))
    """Those keyed by a frontend, which no other frontend needs."""
    shared: dict[str, list[bytes]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    """Elements of sets, once for each frontend that needs them."""
    lists: Lists = dataclasses.field(default_factory=lambda: defaultdict(dict))
    chains: list[PlannedChain] = dataclasses.field(default_factory=list)

    def contents(self) -> Contents:
        """The same as a part of the table."""
        elements: Elements = {name: dict.fromkeys(keys, b"") for name, keys in self.shared.items()}
        elements |= self.own
        for name, lists in self.lists.items():
            elements[name] = dict(element for one in lists.items() for element in listed(*one))
        clients = [chain.clients for chain in self.chains if isinstance(chain, Remember)]
        return Contents(elements, {chain.name: chain for chain in self.chains}, {each.name: each for each in clients})


class Ruleset:
    """The part of a family's table that depends on the plan, through a history of plans."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._pack = functools.partial(socket.inet_pton, ADDRESS_FAMILY[layout.family])
        self._shared: dict[str, Counter[bytes]] = defaultdict(Counter)
        """How many frontends need each."""
        self._chains: Counter[PlannedChain] = Counter()
        self._spare: set[PlannedChain] = set()
        """Chains that no list currently needs: making one again would cost the kernel 10 ms, an element 0.1."""
        self._moved: dict[str, dict[Frontend, tuple[Endpoint, ...]]] = {"": {}, "local-": {}}
        """Lists of all endpoints and of local ones in their slots, where these are not in the plan's order."""

    def change(self, transaction: Transaction) -> Batch:
        """Apply a transaction; returns the change to the table."""
        old, new = _Lowered(), _Lowered()
        for frontend, before, after in transaction:
            if before is not None:
                self._lower(old, frontend, before)
                self._arrange(frontend, before, after)
            if after is not None:
                self._lower(new, frontend, after)
        batch = Batch()
        for name in old.own.keys() | new.own.keys():
            _change_elements(batch, name, old.own.get(name, {}), new.own.get(name, {}))
        for name in old.lists.keys() | new.lists.keys():
            _change_lists(batch, name, old.lists, new.lists)
        for name in old.shared.keys() | new.shared.keys():
            come, gone = _count(self._shared[name], new.shared.get(name, ()), old.shared.get(name, ()))
            _change_elements(batch, name, dict.fromkeys(gone, b""), dict.fromkeys(come, b""))
        self._change_chains(batch, *_count(self._chains, new.chains, old.chains))
        return batch

    def contents(self, plan: Mapping[Frontend, Target]) -> Contents:
        """All that a table holds for the plan after the transactions so far."""
        contents = self._lowered(plan).contents()
        contents.chains.update({chain.name: chain for chain in self._spare})
        return contents

    def adopt(self, plan: Mapping[Frontend, Target], found: Elements, chains: Iterable[str] = ()) -> None:
        """Begin with a plan and a table's contents: endpoints stay in their slots, and spare chains are kept."""
        for frontend, target in plan.items():
            for which, wanted in (("", target.cluster), ("local-", target.local)):
                prefix, key = self._key(frontend)
                kind = "sticky" if target.affinity_seconds else "endpoints"
                infix = which if target.short_cut and target.cluster else ""  # as in _lower
                there = found.get(f"{prefix}{infix}{kind}", {})
                values = self._values(wanted, self._remembering(frontend, target, wanted)) if there else []
                by_value = dict(zip(values, wanted, strict=False))
                old = [by_value.get(there.get(key + numbered(slot), b"")) for slot in range(len(values))]
                self._put(frontend, which, arrange(old, wanted), wanted)
        lowered = self._lowered(plan)
        for name, keys in lowered.shared.items():
            self._shared[name].update(keys)
        self._chains.update(lowered.chains)
        picks = (Pick.of_name(self.layout.family, name) for name in chains)
        self._spare.update(pick for pick in picks if pick is not None and pick not in self._chains)

    def part(self, frontend: Frontend, target: Target) -> Contents:
        """A frontend's part of the table, for people."""
        return self._lowered({frontend: target}).contents()

    def _change_chains(self, batch: Batch, come: Iterable[PlannedChain], gone: Iterable[PlannedChain]) -> None:
        for chain in come:
            if chain in self._spare:
                self._spare.remove(chain)
                continue
            batch.chains_come[chain.name] = chain.expressions
            if isinstance(chain, Remember):
                batch.sets_come[chain.clients.name] = (chain.clients.seconds, chain.clients.size)
        for chain in gone:
            if isinstance(chain, Pick):
                self._spare.add(chain)
                continue
            batch.chains_gone.append(chain.name)
            if isinstance(chain, Remember):
                batch.sets_gone.append(chain.clients.name)

    # --- From a frontend to elements -------------------------------------------------------------------------------

    def _lowered(self, plan: Mapping[Frontend, Target]) -> _Lowered:
        lowered = _Lowered()
        for frontend, target in plan.items():
            self._lower(lowered, frontend, target)
        return lowered

    def _lower(self, into: _Lowered, frontend: Frontend, target: Target) -> None:
        prefix, key = self._key(frontend)
        own, inside = into.own, target.scope is Scope.INTERNAL
        if inside:
            into.shared["cluster-ips"].append(key[:-_DIALLED])
        if hairpins := self._hairpins(target):
            into.shared["hairpins"] += hairpins
        if target.sources and frontend.address is not None:
            own["firewalled"][key] = b""
            own["allowed"].update((key + first, key + last) for first, last in _ranges(target.sources))
        if target.short_cut and target.cluster:
            own[f"{prefix}external-local"][key] = b""
            self._list(into, frontend, target, prefix, key)
            if target.local:
                # For clients outside the cluster; all others use the full list.
                self._list(into, frontend, target, prefix, key, "local-", "local-")
        elif target.endpoints:
            own["internal" if inside else f"{prefix}external"][key] = b""
            self._list(into, frontend, target, prefix, key, "local-" if target.policy == "Local" else "")
        elif target.verdict is Outcome.DROP:
            own[f"{prefix}picks"][key] = drop()
        elif not inside:
            # A ClusterIP without endpoints is refused like a wrong port of it, by `cluster-ips`.
            own[f"{prefix}no-endpoints"][key] = b""

    def _list(
        self,
        into: _Lowered,
        frontend: Frontend,
        target: Target,
        prefix: str,
        key: bytes,
        which: str = "",
        infix: str = "",
    ) -> None:
        """The list of all endpoints or of the local ones (`which`), in the maps with that infix."""
        slots = self._moved[which].get(frontend, target.local if which else target.cluster)
        remembering = self._remembering(frontend, target, slots)
        if remembering:
            chain, recalls = sticky(self.layout.family, prefix, infix, remembering)
            kind, verdict = "sticky", goto(chain.name)
            into.chains += [*remembering, *recalls, chain]
        else:
            kind, (pick, verdict) = "endpoints", _pick(self.layout.family, prefix, infix, len(slots))
            into.chains.append(pick)
        into.lists[f"{prefix}{infix}{kind}"][key] = self._values(slots, remembering)
        into.own[f"{prefix}{infix}picks"][key] = verdict

    def _hairpins(self, target: Target) -> list[bytes]:
        """A pod that reaches itself must see a foreign source, or it answers itself without undoing the NAT.

        Only pods of this node can do that: only their packets pass here in both directions.
        """
        pods = [endpoint.address for endpoint in target.cluster + target.local if endpoint.local is not False]
        return [self._pack(address) * 2 for address in dict.fromkeys(pods)]

    def _arrange(self, frontend: Frontend, before: Target, after: Target | None) -> None:
        """Assign endpoints the slots 0..N-1 so that as few slots as possible change."""
        for which, old, wanted in (
            ("", before.cluster, after.cluster if after else ()),
            ("local-", before.local, after.local if after else ()),
        ):
            self._put(frontend, which, arrange(self._moved[which].get(frontend, old), wanted), wanted)

    def _put(self, frontend: Frontend, which: str, slots: tuple[Endpoint, ...], in_order: tuple[Endpoint, ...]) -> None:
        if slots != in_order:
            self._moved[which][frontend] = slots
        else:
            self._moved[which].pop(frontend, None)

    def _key(self, frontend: Frontend) -> tuple[str, bytes]:
        """The prefix of the maps that a frontend is in, and its key there."""
        dialled = _dialled(frontend.protocol, frontend.port)
        return ("nodeport-", dialled) if frontend.address is None else ("", self._pack(frontend.address) + dialled)

    def _values(self, slots: Sequence[Endpoint], remembering: Sequence[Remember]) -> list[Value]:
        """What the elements of a list lead to."""
        if remembering:
            return [_remembered(chain.name) for chain in remembering]
        pack, family, data = socket.inet_pton, ADDRESS_FAMILY[self.layout.family], _DATA[self.layout.family].pack
        return [data(pack(family, each.address), each.port) for each in slots]

    def _remembering(self, frontend: Frontend, target: Target, slots: Sequence[Endpoint]) -> list[Remember]:
        """With affinity, the chains of these endpoints."""
        family, seconds, protocol = self.layout.family, target.affinity_seconds, frontend.protocol
        if not seconds:
            return []
        return [remember(family, target.service, seconds, protocol, each.address, each.port) for each in slots]


_remembered = functools.lru_cache(1 << 14)(goto)
"""What leads to the chain of an endpoint with affinity."""


@functools.lru_cache(1024)
def _pick(family: Family, prefix: str, which: str, endpoints: int) -> tuple[Pick, Verdict]:
    """The chain, and what leads there."""
    pick = Pick(family, prefix, which, endpoints)
    return pick, goto(pick.name)


_DIALLED = 8
"""Bytes of a protocol and a port in a key."""


@functools.lru_cache(1024)
def _dialled(protocol: str, port: int) -> bytes:
    return struct.pack("!BxxxHxx", NUMBERS[protocol], port)


_DATA: Mapping[Family, struct.Struct] = {"IPv4": struct.Struct("!4sHxx"), "IPv6": struct.Struct("!16sHxx")}
"""An endpoint's address and port, each in registers of four bytes."""


def arrange(old: Sequence[Endpoint | None], wanted: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The wanted endpoints in slots: each keeps its slot unless that is beyond the new end."""
    if not old or old == wanted:
        return tuple(wanted)
    fresh = set(wanted)
    slots: list[Endpoint | None] = [endpoint if endpoint in fresh else None for endpoint in old[: len(fresh)]]
    slots += [None] * (len(fresh) - len(slots))
    homeless = iter(sorted(fresh.difference(slot for slot in slots if slot is not None)))
    return tuple(next(homeless) if slot is None else slot for slot in slots)


def _change_elements(batch: Batch, name: str, old: dict[bytes, Value], new: dict[bytes, Value]) -> None:
    gone = {key: value for key, value in old.items() if new.get(key) != value}
    come = {key: value for key, value in new.items() if old.get(key) != value} if old else new
    if gone:
        batch.gone[name] = gone
    if come:
        batch.come[name] = come


def _change_lists(batch: Batch, name: str, old: Lists, new: Lists) -> None:
    before, after = old.get(name, {}), new.get(name, {})
    changes = [
        (key + numbered(slot), was, now)
        for key, values in before.items()
        for slot, (was, now) in enumerate(itertools.zip_longest(values, after.get(key, ())))
        if was != now
    ]
    gone = {at: was for at, was, _ in changes if was is not None}
    _change_elements(batch, name, gone, {at: now for at, _, now in changes if now is not None})
    come = {key: values for key, values in after.items() if key not in before} if before else after
    if come:
        batch.lists_come[name] = come


def _count(counted: Counter[T], more: Iterable[T], less: Iterable[T]) -> tuple[list[T], list[T]]:
    """Count how often each is needed; returns those needed now and not before, and the other way round."""
    balance = Counter(more)
    balance.subtract(less)
    come: list[T] = []
    gone: list[T] = []
    for item, change in balance.items():
        had = counted.get(item, 0)
        if had + change:
            counted[item] = had + change
        else:
            counted.pop(item, None)
        if bool(had) != bool(had + change):
            (gone if had else come).append(item)
    return come, gone


def _ranges(networks: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    """The first and last addresses of networks, without those inside others: the kernel refuses overlaps."""
    parsed: list[Any] = [ipaddress.ip_network(network) for network in networks]
    for network in ipaddress.collapse_addresses(parsed):
        yield network.network_address.packed, network.broadcast_address.packed
