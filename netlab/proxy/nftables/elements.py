"""From frontends to elements, and from a change of plan to its batch. Pure."""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from netlab.net.addresses import Family
from netlab.net.nftables.elements import numbered
from netlab.proxy.nftables.batch import Batch, Contents, Elements, EndpointList, Value
from netlab.proxy.nftables.chains import Pick, PlannedChain, Remember, remember, sticky
from netlab.proxy.nftables.fixed import ADDRESS_FAMILY, NUMBERS, Layout
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target, Transaction, Verdict

_Place: TypeAlias = tuple[str, bytes]
"""Where an element is: its set or map, and its key."""
_Element: TypeAlias = tuple[str, bytes, Value]
"""An element with its set or map."""


class _Lowered(NamedTuple):
    """What a frontend needs."""

    own: list[_Element]
    """Those keyed by the frontend, which no other frontend needs."""
    shared: list[_Place]
    """Elements of sets."""
    lists: list[EndpointList]
    chains: list[PlannedChain]


_NOTHING = _Lowered([], [], [], [])


class Ruleset:
    """The part of a family's table that depends on the plan, through a history of plans."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._shared: Counter[_Place] = Counter()
        """How many frontends need each."""
        self._chains: Counter[PlannedChain] = Counter()
        self._spare: set[Pick] = set()
        """Chains that no list currently needs: making one again would cost the kernel 10 ms, an element 0.1."""
        self._slots: dict[tuple[Frontend, str], tuple[Endpoint, ...]] = {}

    def change(self, transaction: Transaction) -> Batch:
        """Apply a transaction; returns the change to the table."""
        if all(before is None for _, before, _ in transaction):
            return self._grow((frontend, target) for frontend, _, target in transaction if target is not None)
        batch = Batch()
        shared: Counter[_Place] = Counter()
        chains: Counter[PlannedChain] = Counter()
        for frontend, before, after in transaction:
            old = self._lower(frontend, before) if before else _NOTHING
            self._arrange(frontend, after)
            new = self._lower(frontend, after) if after else _NOTHING
            _change_elements(batch, old.own, new.own)
            _change_lists(batch, old.lists, new.lists)
            shared.update(new.shared)
            shared.subtract(old.shared)
            chains.update(new.chains)
            chains.subtract(old.chains)
        self._change_shared(batch, shared)
        self._change_chains(batch, chains)
        return batch

    def _grow(self, frontends: Iterable[tuple[Frontend, Target]]) -> Batch:
        """`change` when frontends are only added: nearly all of a proxy's start."""
        batch = Batch()
        come: defaultdict[str, dict[bytes, Value]] = defaultdict(dict)
        shared: list[_Place] = []
        chains: list[PlannedChain] = []
        for frontend, target in frontends:
            if target.cluster:
                self._slots[frontend, ""] = target.cluster
            if target.local:
                self._slots[frontend, "local-"] = target.local
            lowered = self._lower(frontend, target)
            for name, key, value in lowered.own:
                come[name][key] = value
            batch.lists_come += lowered.lists
            shared += lowered.shared
            chains += lowered.chains
        batch.come.update(come)
        self._change_shared(batch, Counter(shared))
        self._change_chains(batch, Counter(chains))
        return batch

    def contents(self, plan: Mapping[Frontend, Target]) -> Contents:
        """All that a table holds for the plan after the transactions so far."""
        contents = Contents({}, {chain.name: chain for chain in self._spare}, {})
        for frontend, target in plan.items():
            lowered = self._lower(frontend, target)
            _collect(contents.elements, lowered)
            for chain in lowered.chains:
                contents.chains[chain.name] = chain
                if isinstance(chain, Remember):
                    contents.sets[chain.clients.name] = chain.clients
        return contents

    def adopt(self, plan: Mapping[Frontend, Target], found: Elements, chains: Iterable[str] = ()) -> None:
        """Start from a plan and a table's contents: endpoints stay in their slots, and spare chains are kept."""
        self._shared.clear()
        self._chains.clear()
        self._spare.clear()
        self._slots.clear()
        for frontend, target in plan.items():
            for which, wanted in (("", target.cluster), ("local-", target.local)):
                prefix, key = self._key(frontend)
                kind = "sticky" if target.affinity_seconds else "endpoints"
                infix = which if target.short_cut and target.cluster else ""  # as in _lower
                there = found.get(f"{prefix}{infix}{kind}", {})
                values = self._values(frontend, target, wanted) if there else []
                by_value = dict(zip(values, wanted, strict=False))
                old = [by_value.get(there.get(key + numbered(slot), b"")) for slot in range(len(values))]
                self._put(frontend, which, arrange(old, wanted))
            lowered = self._lower(frontend, target)
            self._shared.update(lowered.shared)
            self._chains.update(lowered.chains)
        picks = (Pick.of_name(self.layout.family, name) for name in chains)
        self._spare.update(pick for pick in picks if pick is not None and pick not in self._chains)

    def lowered(self, frontend: Frontend, target: Target) -> Contents:
        """A frontend's part of the table, for people."""
        lowered = self._lower(frontend, target)
        elements: Elements = {}
        _collect(elements, lowered)
        return Contents(elements, {chain.name: chain for chain in lowered.chains}, {})

    def _change_shared(self, batch: Batch, shared: Counter[_Place]) -> None:
        for place, balance in shared.items():
            if not balance:
                continue
            had = self._shared[place]
            _set_count(self._shared, place, had + balance)
            if bool(had) != bool(had + balance):
                name, key = place
                (batch.gone if had else batch.come).setdefault(name, {})[key] = b""

    def _change_chains(self, batch: Batch, chains: Counter[PlannedChain]) -> None:
        for chain, balance in chains.items():
            if not balance:
                continue
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
        own: list[_Element] = []
        inside = target.scope is Scope.INTERNAL
        shared = [("cluster-ips", key[:-_DIALLED])] if inside else []
        lowered = _Lowered(own, shared + self._hairpins(target), [], [])
        if target.sources and frontend.address is not None:
            own.append(("firewalled", key, b""))
            own += [("allowed", key + first, key + last) for first, last in _ranges(target.sources)]
        if target.short_cut and target.cluster:
            own.append((f"{prefix}external-local", key, b""))
            self._list(lowered, frontend, target, prefix, key)
            if target.local:
                # For clients outside the cluster; all others use the full list.
                self._list(lowered, frontend, target, prefix, key, "local-", "local-")
        elif target.endpoints:
            own.append(("internal" if inside else f"{prefix}external", key, b""))
            self._list(lowered, frontend, target, prefix, key, "local-" if target.policy == "Local" else "")
        elif target.verdict is Verdict.DROP:
            own.append((f"{prefix}picks", key, "drop"))
        elif not inside:
            # A ClusterIP without endpoints is refused like a wrong port of it, by `cluster-ips`.
            own.append((f"{prefix}no-endpoints", key, b""))
        return lowered

    def _list(
        self,
        lowered: _Lowered,
        frontend: Frontend,
        target: Target,
        prefix: str,
        key: bytes,
        which: str = "",
        infix: str = "",
    ) -> None:
        """The list of all endpoints or of the local ones (`which`), in the maps with that infix."""
        slots = self._slots[frontend, which]
        chain: PlannedChain
        if target.affinity_seconds:
            remembering = self._remembering(frontend, target, slots)
            chain, recalls = sticky(self.layout.family, prefix, infix, remembering)
            kind, goto = "sticky", f"goto {chain.name}"
            lowered.chains.extend((*remembering, *recalls))
        else:
            kind, (chain, goto) = "endpoints", _pick(self.layout.family, prefix, infix, len(slots))
        lowered.lists.append(EndpointList(f"{prefix}{infix}{kind}", key, self._values(frontend, target, slots)))
        lowered.chains.append(chain)
        lowered.own.append((f"{prefix}{infix}picks", key, goto))

    def _hairpins(self, target: Target) -> list[_Place]:
        """A pod that reaches itself must see a foreign source, or it answers itself without undoing the NAT.

        Only pods of this node can do that: only their packets pass here in both directions.
        """
        pods = [address for address, _, local in target.cluster + target.local if local is not False]
        return [("hairpins", self.layout.pack_address(address) * 2) for address in dict.fromkeys(pods)]

    def _arrange(self, frontend: Frontend, target: Target | None) -> None:
        """Assign endpoints the slots 0..N-1 so that as few slots as possible change."""
        for which, wanted in (("", target.cluster if target else ()), ("local-", target.local if target else ())):
            self._put(frontend, which, arrange(self._slots.get((frontend, which), ()), wanted))

    def _put(self, frontend: Frontend, which: str, slots: tuple[Endpoint, ...]) -> None:
        if slots:
            self._slots[frontend, which] = slots
        else:
            self._slots.pop((frontend, which), None)

    def _key(self, frontend: Frontend) -> tuple[str, bytes]:
        """The prefix of the maps that a frontend is in, and its key there."""
        address, protocol, port = frontend
        dialled = _dialled(protocol, port)
        return ("nodeport-", dialled) if address is None else ("", self.layout.pack_address(address) + dialled)

    def _values(self, frontend: Frontend, target: Target, slots: Sequence[Endpoint]) -> list[Value]:
        """What the elements of a list lead to."""
        if target.affinity_seconds:
            return [f"goto {chain.name}" for chain in self._remembering(frontend, target, slots)]
        pack, family, data = socket.inet_pton, ADDRESS_FAMILY[self.layout.family], _DATA[self.layout.family].pack
        return [data(pack(family, address), port) for address, port, _ in slots]

    def _remembering(self, frontend: Frontend, target: Target, slots: Sequence[Endpoint]) -> list[Remember]:
        family, seconds, protocol = self.layout.family, target.affinity_seconds, frontend.protocol
        return [remember(family, target.service, seconds, protocol, address, port) for address, port, _ in slots]


@functools.lru_cache(1024)
def _pick(family: Family, prefix: str, which: str, endpoints: int) -> tuple[Pick, str]:
    """The chain, and what leads there."""
    pick = Pick(family, prefix, which, endpoints)
    return pick, f"goto {pick.name}"


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


def _collect(elements: Elements, lowered: _Lowered) -> None:
    for name, key in lowered.shared:
        elements.setdefault(name, {})[key] = b""
    for name, key, value in lowered.own:
        elements.setdefault(name, {})[key] = value
    for one in lowered.lists:
        elements.setdefault(one.name, {}).update(one.items())


def _change_elements(batch: Batch, old: Sequence[_Element], new: Sequence[_Element]) -> None:
    for name, key, value in set(old).difference(new):
        batch.gone.setdefault(name, {})[key] = value
    for name, key, value in set(new).difference(old):
        batch.come.setdefault(name, {})[key] = value


def _change_lists(batch: Batch, before: Sequence[EndpointList], after: Sequence[EndpointList]) -> None:
    old = {(one.name, one.key): one for one in before}
    for new in after:
        was = old.pop((new.name, new.key), None)
        if was is None:
            batch.lists_come.append(new)
        else:
            _change_elements(
                batch, [(was.name, *item) for item in was.items()], [(new.name, *item) for item in new.items()]
            )
    for one in old.values():
        batch.gone.setdefault(one.name, {}).update(one.items())


def _set_count(counter: Counter[_Place] | Counter[PlannedChain], item: object, count: int) -> None:
    if count:
        counter[item] = count  # type: ignore[index]
    else:
        del counter[item]


def _ranges(networks: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    """The first and last addresses of networks, without those inside others: the kernel refuses overlaps."""
    parsed: list[Any] = [ipaddress.ip_network(network) for network in networks]
    for network in ipaddress.collapse_addresses(parsed):
        yield network.network_address.packed, network.broadcast_address.packed
