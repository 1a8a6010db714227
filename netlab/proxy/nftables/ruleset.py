"""From frontends to elements, and from a change of the plan to the batch that it takes. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from netlab.proxy.nftables.layout import ADDRESS_FAMILY, NUMBERS, Layout
from netlab.proxy.nftables.shapes import Clients, Pick, Remember, Shape, Sticky, remember, slot_bytes
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target, Transaction, Verdict

Value: TypeAlias = bytes | str
"""What an element leads to: data, or a verdict in nft's words; empty in a set. In a set of ranges: the last key."""
Elements: TypeAlias = dict[str, dict[bytes, Value]]
"""Elements by the name of their set or map, and by their key."""

_SLOTS = [slot_bytes(slot) for slot in range(256)]


@dataclasses.dataclass(slots=True)
class Batch:
    """What leads a table from one plan to another, all of it or nothing.

    An element in both `gone` and `come` changes its value.
    """

    gone: Elements = dataclasses.field(default_factory=dict)
    come: Elements = dataclasses.field(default_factory=dict)
    chains_gone: dict[str, Shape | None] = dataclasses.field(default_factory=dict)
    chains_come: dict[str, Shape] = dataclasses.field(default_factory=dict)
    chains_mended: dict[str, Shape] = dataclasses.field(default_factory=dict)
    """Those whose rules are not theirs any more."""
    sets_gone: list[str] = dataclasses.field(default_factory=list)
    sets_come: dict[str, Clients] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in dataclasses.fields(self))

    def operations(self) -> Counter[str]:
        """How many things go (`-NAME`) and come (`+NAME`); elements by the name of their set or map."""
        counted: Counter[str] = Counter()
        for sign, elements in (("-", self.gone), ("+", self.come)):
            for name, keys in elements.items():
                counted[f"{sign}{name}"] += len(keys)
        for sign, names in (
            ("-", [*self.chains_gone, *self.sets_gone]),
            ("+", [*self.chains_come, *self.sets_come]),
        ):
            for name in names:
                counted[f"{sign}{name}"] += 1
        return counted


class Contents(NamedTuple):
    """What of a table depends on the plan."""

    elements: Elements
    chains: dict[str, Shape]
    sets: dict[str, Clients]


class _List(NamedTuple):
    """Endpoints of a frontend in their slots: elements of a map whose keys begin with `key`."""

    name: str
    key: bytes
    values: Sequence[Value]


_Single: TypeAlias = tuple[str, bytes]
"""An element that is not of a list: its set or map, and its key."""


class _Lowered(NamedTuple):
    singles: dict[_Single, Value]
    lists: list[_List]
    chains: list[Shape]


_NOTHING = _Lowered({}, [], [])


class Ruleset:
    """What of a family's table depends on the plan, for a history of plans."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._singles: Counter[_Single] = Counter()
        """How many frontends need each."""
        self._chains: Counter[Shape] = Counter()
        self._spare: set[Pick] = set()
        """Chains that no list needs at present: making one again would cost the kernel 10 ms, an element 0.1."""
        self._slots: dict[tuple[Frontend, str], tuple[Endpoint, ...]] = {}

    def change(self, transaction: Transaction) -> Batch:
        """Take on a transaction; what it takes."""
        if all(before is None for _, before, _ in transaction):
            return self._grow((frontend, target) for frontend, _, target in transaction if target is not None)
        batch = Batch()
        singles: dict[_Single, list[Value | None]] = {}
        chains: Counter[Shape] = Counter()
        balance: Counter[_Single] = Counter()
        for frontend, before, after in transaction:
            old = self._lower(frontend, before) if before else _NOTHING
            self._arrange(frontend, after)
            new = self._lower(frontend, after) if after else _NOTHING
            _change_lists(batch, old.lists, new.lists)
            for which, lowered, sign in ((0, old, -1), (1, new, 1)):
                for single, value in lowered.singles.items():
                    singles.setdefault(single, [None, None])[which] = value
                    balance[single] += sign
                for chain in lowered.chains:
                    chains[chain] += sign
        for single, (was, becomes) in singles.items():
            had = self._singles[single]
            _set_count(self._singles, single, had + balance[single])
            has = single in self._singles
            changed = bool(had and has and was is not None and becomes is not None and was != becomes)
            if had and (changed or not has):
                batch.gone.setdefault(single[0], {})[single[1]] = was or b""
            if has and (changed or not had):
                batch.come.setdefault(single[0], {})[single[1]] = becomes or b""
        self._change_chains(batch, chains)
        return batch

    def _grow(self, frontends: Iterable[tuple[Frontend, Target]]) -> Batch:
        """`change` where frontends only come: nearly all of a proxy's start."""
        batch = Batch()
        chains: Counter[Shape] = Counter()
        for frontend, target in frontends:
            self._arrange(frontend, target)
            lowered = self._lower(frontend, target)
            for single, value in lowered.singles.items():
                needed = self._singles[single]
                self._singles[single] = needed + 1
                if not needed:
                    name, key = single
                    batch.come.setdefault(name, {})[key] = value
            for one in lowered.lists:
                batch.come.setdefault(one.name, {}).update(_slotted(one))
            chains.update(lowered.chains)
        self._change_chains(batch, chains)
        return batch

    def contents(self, plan: Mapping[Frontend, Target]) -> Contents:
        """All that a table holds for the plan that the transactions so far have led to."""
        contents = Contents({}, {chain.name: chain for chain in self._spare}, {})
        for frontend, target in plan.items():
            singles, lists, chains = self._lower(frontend, target)
            for (name, key), value in singles.items():
                contents.elements.setdefault(name, {})[key] = value
            for one in lists:
                contents.elements.setdefault(one.name, {}).update(_slotted(one))
            for chain in chains:
                contents.chains[chain.name] = chain
                if isinstance(chain, Remember):
                    contents.sets[chain.clients.name] = chain.clients
        return contents

    def adopt(self, plan: Mapping[Frontend, Target], found: Elements, chains: Iterable[str] = ()) -> None:
        """Begin with a plan and what a table has: endpoints stay in their slots, and spare chains are kept."""
        self._singles.clear()
        self._chains.clear()
        self._spare.clear()
        self._slots.clear()
        for frontend, target in plan.items():
            for which, wanted in (("", target.cluster), ("local-", target.local)):
                prefix, key = self._key(frontend)
                kind = "sticky" if target.affinity_seconds else "endpoints"
                there = found.get(f"{prefix}{_map_of(target, which)}{kind}", {})
                values = self._values(frontend, target, wanted) if there else []
                by_value = dict(zip(values, wanted, strict=False))
                old = [by_value.get(there.get(key + _slot(slot), b"")) for slot in range(len(values))]
                self._put(frontend, which, arrange(old, wanted))
            lowered = self._lower(frontend, target)
            self._singles.update(lowered.singles.keys())
            self._chains.update(lowered.chains)
        picks = (Pick.of_name(self.layout.family, name) for name in chains)
        self._spare.update(pick for pick in picks if pick is not None and pick not in self._chains)

    def lowered(self, frontend: Frontend, target: Target) -> Contents:
        """What of the table is a frontend's, for people."""
        singles, lists, chains = self._lower(frontend, target)
        elements: Elements = {}
        for (name, key), value in singles.items():
            elements.setdefault(name, {})[key] = value
        for one in lists:
            elements.setdefault(one.name, {}).update(_slotted(one))
        return Contents(elements, {chain.name: chain for chain in chains}, {})

    def _change_chains(self, batch: Batch, chains: Counter[Shape]) -> None:
        for chain, balance in chains.items():
            had = self._chains[chain]
            _set_count(self._chains, chain, had + balance)
            if isinstance(chain, Pick) and chain in self._spare:
                self._spare -= {chain} if balance > 0 else set()
            elif isinstance(chain, Pick) and had and not had + balance:
                self._spare.add(chain)
            elif not had and balance > 0:
                batch.chains_come[chain.name] = chain
                if isinstance(chain, Remember):
                    batch.sets_come[chain.clients.name] = chain.clients
            elif had and not had + balance:
                batch.chains_gone[chain.name] = chain
                if isinstance(chain, Remember):
                    batch.sets_gone.append(chain.clients.name)

    # --- From a frontend to elements -------------------------------------------------------------------------------

    def _lower(self, frontend: Frontend, target: Target) -> _Lowered:
        prefix, key = self._key(frontend)
        singles: dict[_Single, Value] = {}
        lowered = _Lowered(singles, [], [])
        if target.scope is Scope.INTERNAL:
            singles["cluster-ips", self.layout.pack_address(frontend.address or "")] = b""
        self._hairpins(target, singles)
        if target.sources and frontend.address is not None:
            singles["firewalled", key] = b""
            for first, last in _ranges(target.sources):
                singles["allowed", key + first] = key + last
        if target.short_cut and target.cluster:
            singles[f"{prefix}external-local", key] = b""
            self._list(frontend, target, "", lowered)
            if target.local:
                self._list(frontend, target, "local-", lowered)
        elif target.endpoints:
            singles["internal" if target.scope is Scope.INTERNAL else f"{prefix}external", key] = b""
            self._list(frontend, target, "local-" if target.policy == "Local" else "", lowered)
        elif target.verdict is Verdict.DROP:
            singles[f"{prefix}picks", key] = "drop"
        elif target.scope is Scope.EXTERNAL:
            # A ClusterIP without endpoints is refused like a wrong port of it, by `cluster-ips`.
            singles[f"{prefix}no-endpoints", key] = b""
        return lowered

    def _list(self, frontend: Frontend, target: Target, which: str, lowered: _Lowered) -> None:
        slots = self._slots[frontend, which]
        prefix, key = self._key(frontend)
        place = _map_of(target, which)
        chain: Shape
        if target.affinity_seconds:
            kind, chains = "sticky", self._remembering(frontend, target, slots)
            chain = Sticky(prefix, place, tuple(sorted(chains)))
            lowered.chains.extend(chains)
        else:
            kind, chain = "endpoints", Pick(self.layout.family, prefix, place, len(slots))
        lowered.lists.append(_List(f"{prefix}{place}{kind}", key, self._values(frontend, target, slots)))
        lowered.chains.append(chain)
        lowered.singles[f"{prefix}{place}picks", key] = f"goto {chain.name}"

    def _hairpins(self, target: Target, singles: dict[_Single, Value]) -> None:
        """A pod that reaches itself must see a foreign source, or it answers itself without undoing the NAT.

        Only pods of this node can: their packets are the only ones that come and go through here.
        """
        for listed in (target.cluster, target.local):
            for address in [address for address, _, local in listed if local is not False]:
                singles["hairpins", self.layout.pack_address(address) * 2] = b""

    def _arrange(self, frontend: Frontend, target: Target | None) -> None:
        """Give endpoints their slots 0..N-1 so that as few as possible change hands."""
        for which, wanted in (("", target.cluster if target else ()), ("local-", target.local if target else ())):
            self._put(frontend, which, arrange(self._slots.get((frontend, which), ()), wanted))

    def _put(self, frontend: Frontend, which: str, slots: tuple[Endpoint, ...]) -> None:
        if slots:
            self._slots[frontend, which] = slots
        else:
            self._slots.pop((frontend, which), None)

    def _key(self, frontend: Frontend) -> tuple[str, bytes]:
        """The prefix of the maps that a frontend is in, and its key there."""
        dialled = bytes((NUMBERS[frontend.protocol], 0, 0, 0)) + frontend.port.to_bytes(2, "big") + b"\0\0"
        if frontend.address is None:
            return "nodeport-", dialled
        return "", self.layout.pack_address(frontend.address) + dialled

    def _values(self, frontend: Frontend, target: Target, slots: Sequence[Endpoint]) -> list[Value]:
        """What the elements of a list lead to."""
        if target.affinity_seconds:
            return [f"goto {chain.name}" for chain in self._remembering(frontend, target, slots)]
        pack, family = socket.inet_pton, ADDRESS_FAMILY[self.layout.family]
        ports = {port: port.to_bytes(2, "big") + b"\0\0" for _, port, _ in slots}
        return [pack(family, address) + ports[port] for address, port, _ in slots]

    def _remembering(self, frontend: Frontend, target: Target, slots: Sequence[Endpoint]) -> list[Remember]:
        family, seconds, protocol = self.layout.family, target.affinity_seconds, frontend.protocol
        return [remember(family, target.service, seconds, protocol, endpoint) for endpoint in slots]


def arrange(old: Sequence[Endpoint | None], wanted: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The wanted endpoints in slots: those that stay keep theirs unless it is beyond the new end."""
    if not old or old == wanted:
        return tuple(wanted)
    fresh = set(wanted)
    slots: list[Endpoint | None] = [endpoint if endpoint in fresh else None for endpoint in old[: len(fresh)]]
    slots += [None] * (len(fresh) - len(slots))
    homeless = iter(sorted(fresh.difference(slot for slot in slots if slot is not None)))
    return tuple(next(homeless) if slot is None else slot for slot in slots)


def _map_of(target: Target, which: str) -> str:
    """The infix of the maps that a list is in.

    Those for local endpoints are for what is outside the cluster, where it has a list of its own beside that of all.
    """
    return which if target.short_cut and target.cluster else ""


def _slot(number: int) -> bytes:
    return _SLOTS[number] if number < len(_SLOTS) else slot_bytes(number)


def _slotted(one: _List) -> Iterator[tuple[bytes, Value]]:
    if len(one.values) <= len(_SLOTS):
        return zip(map(one.key.__add__, _SLOTS), one.values, strict=False)
    return ((one.key + _slot(number), value) for number, value in enumerate(one.values))


def _change_lists(batch: Batch, before: Sequence[_List], after: Sequence[_List]) -> None:
    old = {(one.name, one.key): one for one in before}
    for new in after:
        was = old.pop((new.name, new.key), None)
        if was is None:
            batch.come.setdefault(new.name, {}).update(_slotted(new))
            continue
        gone, come = dict(_slotted(was)), dict(_slotted(new))
        for key in gone.keys() | come.keys():
            if gone.get(key) == come.get(key):
                continue
            if key in gone:
                batch.gone.setdefault(new.name, {})[key] = gone[key]
            if key in come:
                batch.come.setdefault(new.name, {})[key] = come[key]
    for one in old.values():
        batch.gone.setdefault(one.name, {}).update(_slotted(one))


def _set_count(counter: Counter[_Single] | Counter[Shape], item: object, count: int) -> None:
    if count:
        counter[item] = count  # type: ignore[index]
    else:
        del counter[item]


def _ranges(networks: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    """The first and last addresses of networks, those within others left out: the kernel refuses what overlaps."""
    parsed: list[Any] = [ipaddress.ip_network(network) for network in networks]
    for network in ipaddress.collapse_addresses(parsed):
        yield network.network_address.packed, network.broadcast_address.packed
