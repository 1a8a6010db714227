"""What takes a table from one plan to another: as a value, as messages for the kernel, and as text for `nft`. Pure."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from netlab.net.netlink import Message
from netlab.net.nftables import rules
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
    numbered,
    numbered_addition,
)
from netlab.proxy.nftables.chains import Clients, PlannedChain
from netlab.proxy.nftables.fixed import TABLE, Layout

Value: TypeAlias = bytes | str
"""What an element leads to: data, or a verdict in nft's words; empty in a set. In a set of ranges: the last key."""
Elements: TypeAlias = dict[str, dict[bytes, Value]]
"""Elements by the name of their set or map, and by their key."""


class EndpointList(NamedTuple):
    """Endpoints of a frontend in their slots: elements of a map, whose keys are `key` and the slot's number."""

    name: str
    key: bytes
    values: Sequence[Value]

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """The elements."""
        return ((self.key + numbered(slot), value) for slot, value in enumerate(self.values))


@dataclasses.dataclass(slots=True)
class Batch:
    """What takes a table from one plan to another, all of it or nothing.

    An element in both `gone` and `come` changes its value.
    """

    gone: Elements = dataclasses.field(default_factory=dict)
    come: Elements = dataclasses.field(default_factory=dict)
    lists_come: list[EndpointList] = dataclasses.field(default_factory=list)
    """In addition to the elements in `come`."""
    chains_gone: dict[str, PlannedChain | None] = dataclasses.field(default_factory=dict)
    chains_come: dict[str, PlannedChain] = dataclasses.field(default_factory=dict)
    chains_mended: dict[str, PlannedChain] = dataclasses.field(default_factory=dict)
    """Those whose rules have changed."""
    sets_gone: list[str] = dataclasses.field(default_factory=list)
    sets_come: dict[str, Clients] = dataclasses.field(default_factory=dict)


class Contents(NamedTuple):
    """The part of a table that depends on the plan."""

    elements: Elements
    chains: dict[str, PlannedChain]
    sets: dict[str, Clients]


def messages(batch: Batch, layout: Layout) -> list[Message]:
    """The batch for the kernel: objects are made before their uses, and uses removed before the objects."""
    set_of, chain_of = functools.partial(Set, layout.ip, TABLE), functools.partial(rules.Chain, layout.ip, TABLE)
    ranges = {name for name, schema in layout.schemas().items() if schema.interval}
    listed = [rules.client_set_addition(set_of(one.name), one.seconds, one.size) for one in batch.sets_come.values()]
    listed += [rules.chain_addition(chain_of(name)) for name in batch.chains_come]
    listed += [rules.rules_deletion(chain_of(name)) for name in batch.chains_mended]
    for name, chain in (batch.chains_come | batch.chains_mended).items():
        listed += [rules.rule_addition(chain_of(name), rule) for rule in chain.expressions]
    for name, gone in batch.gone.items():
        listed += deletion(set_of(name), _ranges(gone)) if name in ranges else bulk_deletion(set_of(name), gone)
    lists, elements = _by_set(batch.lists_come)
    for name, come in (*batch.come.items(), *elements.items()):
        listed += addition(set_of(name), _ranges(come)) if name in ranges else bulk_addition(set_of(name), _data(come))
    listed += [message for name, found in lists.items() for message in numbered_addition(set_of(name), found)]
    # What leads to a chain goes before it: chains that choose an endpoint, those that recall clients, the endpoints'.
    last = sorted(batch.chains_gone, key=lambda name: name.startswith("recall-") + 2 * name.startswith("endpoint-"))
    listed += [rules.rules_deletion(chain_of(name)) for name in last if batch.chains_gone[name] is None]
    listed += [rules.chain_deletion(chain_of(name)) for name in last]
    listed += [rules.set_deletion(set_of(name)) for name in batch.sets_gone]
    return listed


def whole(layout: Layout, contents: Contents) -> str:
    """A script that replaces the table, if there is one, in one transaction.

    Established connections go on: connection tracking has their translation, not the table.
    """
    table = f"{layout.ip} {TABLE}"
    lines = [f"add table {table}", f"delete table {table}", layout.script()]
    lines += [f"add set {table} {name} {{ {clients.text} }}" for name, clients in contents.sets.items()]
    lines += [f"add chain {table} {name}" for name in contents.chains]
    lines += [f"add rule {table} {name} {rule}" for name, chain in contents.chains.items() for rule in chain.texts]
    schemas = layout.schemas()
    for name, elements in contents.elements.items():
        texts = ", ".join(schemas[name].text(key, value) for key, value in elements.items())
        lines.append(f"add element {table} {name} {{ {texts} }}")
    return "\n".join(lines) + "\n"


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


def _by_set(
    lists: Iterable[EndpointList],
) -> tuple[dict[str, list[tuple[bytes, Sequence[bytes]]]], dict[str, dict[bytes, Value]]]:
    """The lists of addresses, and those of verdicts as elements."""
    plain: dict[str, list[tuple[bytes, Sequence[bytes]]]] = {}
    verdicts: dict[str, dict[bytes, Value]] = {}
    for one in lists:
        if isinstance(one.values[0], bytes):
            plain.setdefault(one.name, []).append((one.key, one.values))  # type: ignore[arg-type]  # all are alike
        else:
            verdicts.setdefault(one.name, {}).update(one.items())
    return plain, verdicts


def _ranges(elements: dict[bytes, Value]) -> list[Element]:
    return [Element(key, key_end=last) for key, last in elements.items() if isinstance(last, bytes)]
