"""A family's table as the kernel has it, and the change that brings it to the plan. Pure except `read`."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from netlab.net.netlink import Message, NetlinkError
from netlab.net.nftables import dumps, rules
from netlab.net.nftables.elements import (
    Element,
    Set,
    Verdict,
    addition,
    bulk_addition,
    bulk_deletion,
    deletion,
    drop,
    goto,
    numbered_addition,
)
from netlab.net.nftables.socket import Nfnetlink
from netlab.proxy.nftables.layout import TABLE, Layout
from netlab.proxy.nftables.ruleset import Batch, Contents, Elements, EndpointList, Value
from netlab.proxy.nftables.shapes import Shape

Digests: TypeAlias = dict[str, tuple[int, str]]
"""Of chains, by name: the number of its rules, and a digest of them as the kernel returns them."""


class Found(NamedTuple):
    """A table as the kernel has it."""

    generation: int
    """Of all tables of the network namespace."""
    comment: str
    chains: Digests
    sets: frozenset[str]
    elements: Elements
    """Of the layout's sets and maps; affinity's memory is not part of the plan."""
    dormant: bool = False
    """None of it is in force: a process was killed while filling it."""


class Repair(NamedTuple):
    """What to do to a table that has the layout's comment."""

    batch: Batch
    layout: bool
    """A chain, a set or a map of the layout is missing or has other rules."""


def read(netlink: Nfnetlink, layout: Layout, *, elements: bool = True) -> Found | None:
    """The table at one moment, or all but its elements; None if it does not exist. Raises NetlinkError.

    A set that has just grown a lot may not return all of its elements: the kernel is still moving them.
    """
    while True:
        before = netlink.generation()
        try:
            found = _read(netlink, layout, before, elements=elements)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            found = None
        if netlink.generation() == before:
            return found


def _read(netlink: Nfnetlink, layout: Layout, generation: int, *, elements: bool) -> Found:
    ip = layout.ip
    (answer,) = netlink.ask(dumps.table_request(ip, TABLE))
    sets = frozenset(dumps.sets_of(netlink.ask(dumps.sets_request(ip, TABLE)), TABLE))
    found: Elements = {}
    for name in layout.schemas().keys() & sets if elements else ():
        dumped = netlink.dump(Set(ip, TABLE, name))
        if dumped:
            found[name] = _values(dumped)
    comment, dormant = dumps.table_comment(answer), dumps.table_is_dormant(answer)
    return Found(generation, comment, _digests(netlink, ip), sets, found, dormant)


def read_layout(netlink: Nfnetlink, layout: Layout) -> Digests:
    """The digests of the layout's own chains. Raises NetlinkError."""
    names = {chain.name for chain in layout.chains()}
    return {name: digest for name, digest in _digests(netlink, layout.ip).items() if name in names}


def _digests(netlink: Nfnetlink, ip: str) -> Digests:
    digests = dict.fromkeys(dumps.chains_of(netlink.ask(dumps.chains_request(ip)), TABLE), (0, ""))
    for chain, expressions in dumps.rules_of(netlink.ask(dumps.rules_request(ip, TABLE)), TABLE):
        count, digest = digests[chain]
        digests[chain] = (count + 1, hashlib.blake2s(digest.encode() + expressions).hexdigest())
    return digests


def repair(found: Found, wanted: Contents, layout: Layout, known: Digests) -> Repair:
    """The batch that brings a table to `contents`.

    `known` are the digests that chains of the layout had when they were made, as far as that is known.
    """
    batch = Batch()
    for name in layout.schemas():
        there, ought = found.elements.get(name, {}), wanted.elements.get(name, {})
        if there == ought:
            continue
        gone = {key: value for key, value in there.items() if ought.get(key) != value}
        come = {key: value for key, value in ought.items() if there.get(key) != value}
        if gone:
            batch.gone[name] = gone
        if come:
            batch.come[name] = come
    ours = {chain.name: chain for chain in layout.chains()}
    for name in found.chains.keys() - ours.keys() - wanted.chains.keys():
        batch.chains_gone[name] = None
    for name, shape in wanted.chains.items():
        if name not in found.chains:
            batch.chains_come[name] = shape
        elif found.chains[name][0] != len(shape.texts):
            batch.chains_mended[name] = shape
    schemas = layout.schemas()
    batch.sets_gone.extend(found.sets - schemas.keys() - wanted.sets.keys())
    batch.sets_come.update({name: clients for name, clients in wanted.sets.items() if name not in found.sets})
    damaged = not found.sets >= schemas.keys() or any(
        name not in found.chains or found.chains[name] != known.get(name, (len(chain.rules), found.chains[name][1]))
        for name, chain in ours.items()
    )
    return Repair(batch, damaged)


def messages(batch: Batch, layout: Layout) -> list[Message]:
    """The batch for the kernel: objects are made before their uses, and uses removed before the objects."""
    ip = layout.ip
    schemas = layout.schemas()
    listed = [rules.client_set_addition(_set(ip, one.name), one.seconds, one.size) for one in batch.sets_come.values()]
    listed += [rules.chain_addition(_chain(ip, name)) for name in batch.chains_come]
    listed += [rules.rules_deletion(_chain(ip, name)) for name in batch.chains_mended]
    for name, shape in (batch.chains_come | batch.chains_mended).items():
        listed += [rules.rule_addition(_chain(ip, name), rule) for rule in shape.expressions]
    for name, gone in batch.gone.items():
        if schemas[name].interval:
            listed += deletion(_set(ip, name), _range_elements(gone))
        else:
            listed += bulk_deletion(_set(ip, name), gone)
    for name, come in batch.come.items():
        if schemas[name].interval:
            listed += addition(_set(ip, name), _range_elements(come))
        else:
            listed += bulk_addition(_set(ip, name), _data(come))
    listed += _lists_addition(batch.lists_come, ip)
    # What leads to a chain goes before it: chains that choose an endpoint, those that recall clients, the endpoints'.
    last = sorted(batch.chains_gone, key=lambda name: name.startswith("recall-") + 2 * name.startswith("endpoint-"))
    listed += [rules.rules_deletion(_chain(ip, name)) for name in last if batch.chains_gone[name] is None]
    listed += [rules.chain_deletion(_chain(ip, name)) for name in last]
    listed += [rules.set_deletion(_set(ip, name)) for name in batch.sets_gone]
    return listed


def whole(layout: Layout, contents: Contents) -> str:
    """A script that replaces the table, if there is one, in one transaction.

    Established connections go on: connection tracking has their translation, not the table.
    """
    table = f"{layout.ip} {TABLE}"
    lines = [f"add table {table}", f"delete table {table}", layout.script()]
    lines += [f"add set {table} {name} {{ {clients.text} }}" for name, clients in contents.sets.items()]
    lines += [f"add chain {table} {name}" for name in contents.chains]
    lines += [f"add rule {table} {name} {rule}" for name, shape in contents.chains.items() for rule in shape.texts]
    schemas = layout.schemas()
    for name, elements in contents.elements.items():
        texts = ", ".join(schemas[name].text(key, value) for key, value in elements.items())
        lines.append(f"add element {table} {name} {{ {texts} }}")
    return "\n".join(lines) + "\n"


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
    schemas = layout.schemas()
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


def shape_lines(shapes: Iterable[Shape]) -> Iterator[str]:
    """Chains that depend on the plan, for people."""
    for shape in shapes:
        yield from chain_lines(shape.name, shape.texts)


def _values(dumped: dict[bytes, bytes | Verdict]) -> dict[bytes, Value]:
    if all(isinstance(data, bytes) for data in dumped.values()):
        return dumped  # type: ignore[return-value]
    return {key: repr(data) if isinstance(data, Verdict) else data for key, data in dumped.items()}


def _data(elements: dict[bytes, Value]) -> dict[bytes, bytes | Verdict]:
    verdicts: dict[str, Verdict] = {}
    result: dict[bytes, bytes | Verdict] = {}
    for key, value in elements.items():
        if isinstance(value, bytes):
            return elements  # type: ignore[return-value]  # a map's data are all bytes or all verdicts
        if value not in verdicts:
            verb, _, chain = value.partition(" ")
            verdicts[value] = drop() if verb == "drop" else goto(chain)
        result[key] = verdicts[value]
    return result


def _lists_addition(lists: Iterable[EndpointList], ip: str) -> list[Message]:
    plain: dict[str, list[tuple[bytes, Sequence[bytes]]]] = {}
    verdicts: dict[str, dict[bytes, Value]] = {}
    for name, key, values in lists:
        if isinstance(values[0], bytes):
            plain.setdefault(name, []).append((key, values))  # type: ignore[arg-type]  # all of a list's are alike
        else:
            verdicts.setdefault(name, {}).update(EndpointList(name, key, values).items())
    listed = [message for name, found in plain.items() for message in numbered_addition(_set(ip, name), found)]
    listed += [message for name, come in verdicts.items() for message in bulk_addition(_set(ip, name), _data(come))]
    return listed


def _range_elements(elements: dict[bytes, Value]) -> list[Element]:
    return [Element(key, key_end=last) for key, last in elements.items() if isinstance(last, bytes)]


def _set(ip: str, name: str) -> Set:
    return Set(ip, TABLE, name)


def _chain(ip: str, name: str) -> rules.Chain:
    return rules.Chain(ip, TABLE, name)
