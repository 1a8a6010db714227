"""A family's table as the kernel has it, and how it differs from the plan. Pure except `read`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netlab.net.nftables import tables
from netlab.net.nftables.batch import Batch
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.nftables.tables import Digests, Found
from netlab.proxy.nftables.chains import PlannedChain
from netlab.proxy.nftables.contents import Contents
from netlab.proxy.nftables.fixed import TABLE, Layout


class Repair(NamedTuple):
    """What to do to a table that has the layout's comment."""

    batch: Batch
    layout: bool
    """A chain, a set or a map of the layout is missing or has other rules."""


def read(netlink: Nfnetlink, layout: Layout, *, elements: bool = True) -> Found | None:
    """The table at one moment, or all but its elements; None if it does not exist. Raises NetlinkError."""
    return tables.read(netlink, layout.ip, TABLE, layout.schemas if elements else ())


def read_layout(netlink: Nfnetlink, layout: Layout) -> Digests:
    """The digests of the layout's own chains. Raises NetlinkError."""
    names = {chain.name for chain in layout.chains()}
    return {name: digest for name, digest in tables.digests(netlink, layout.ip, TABLE).items() if name in names}


def repair(found: Found, wanted: Contents, layout: Layout, known: Digests) -> Repair:
    """The batch that brings a table to `contents`.

    `known` are the digests that chains of the layout had when they were made, as far as that is known.
    """
    batch = tables.difference(found.elements, wanted.elements, layout.schemas)
    ours = {chain.name: chain for chain in layout.chains()}
    batch.chains_gone.extend(found.chains.keys() - ours.keys() - wanted.chains.keys())
    for name, chain in wanted.chains.items():
        if name not in found.chains:
            batch.chains_come[name] = chain.expressions
        elif found.chains[name][0] != len(chain.texts):
            batch.chains_mended[name] = chain.expressions
    schemas = layout.schemas
    batch.sets_gone.extend(found.sets - schemas.keys() - wanted.sets.keys())
    for name, clients in wanted.sets.items():
        if name not in found.sets:
            batch.sets_come[name] = (clients.seconds, clients.size)
    return Repair(batch, tables.is_damaged(found, layout.schemas, ours.values(), known))


def words(found: Found | None, wanted: Contents, layout: Layout, known: Digests) -> Iterator[str]:
    """How the table differs from its contents, one line each."""
    table = f"table {layout.ip} {TABLE}"
    if found is None:
        yield f"{table} is missing"
        return
    if found.comment != layout.comment:
        yield f"{table} has another layout: its comment is {found.comment!r} instead of {layout.comment!r}"
    if found.dormant:
        yield f"{table} is dormant"
    schemas = layout.schemas
    for name in sorted(schemas.keys() - found.sets):
        yield f"{schemas[name].kind} {name} is missing"
    for chain in layout.chains():
        if chain.name not in found.chains:
            yield f"chain {chain.name} is missing"
        elif found.chains[chain.name] != known.get(chain.name, (len(chain.rules), found.chains[chain.name][1])):
            yield f"chain {chain.name} has the wrong rules"
    batch = repair(found, wanted, layout, known).batch
    yield from (f"chain {name} is missing" for name in batch.chains_come)
    yield from (f"chain {name} has the wrong rules" for name in batch.chains_mended)
    yield from (f"chain {name} is not in the plan" for name in batch.chains_gone)
    yield from (f"set {name} is missing" for name in batch.sets_come)
    yield from (f"set {name} is not in the plan" for name in batch.sets_gone)
    for verb, elements in (("lacks", batch.come), ("has beyond the plan", batch.gone)):
        for name, listed in elements.items():
            for key, value in listed.items():
                yield f"{schemas[name].kind} {name} {verb} {schemas[name].text(key, value)}"


def chain_lines(name: str, rules: Iterable[str]) -> Iterator[str]:
    """A chain for people."""
    return (f"chain {name}: {rule}" for rule in rules)


def planned_lines(chains: Iterable[PlannedChain]) -> Iterator[str]:
    """Chains that depend on the plan, for people."""
    for chain in chains:
        yield from chain_lines(chain.name, chain.texts)
