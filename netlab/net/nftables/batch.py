"""A whole change of what comes and goes in a table: a value, and its messages. Pure.

Of many elements, the bytes around keys and data are the same: they are assembled without a step for each.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from struct import Struct
from typing import TypeAlias

from netlab.net.netlink import Message
from netlab.net.nftables import elements, rules
from netlab.net.nftables.elements import Element, Set, Verdict
from netlab.net.nftables.rules import Chain

Value: TypeAlias = bytes | Verdict
"""What an element leads to: data or a verdict; empty in a set. Of ranges: the last key, and data after it."""
Elements: TypeAlias = dict[str, dict[bytes, Value]]
"""Elements by the name of their set or map, and by their key."""
Lists: TypeAlias = dict[str, dict[bytes, Sequence[Value]]]
"""Lists of elements by the name of their map and by the beginning of their keys: a number from 0 on follows."""
Rules: TypeAlias = Sequence[Sequence[bytes]]
"""A chain's rules, each in expressions."""


@dataclasses.dataclass(slots=True)
class Batch:
    """What takes a table from one state to another, all of it or nothing.

    An element in both `gone` and `come` changes its value.
    """

    gone: Elements = dataclasses.field(default_factory=dict)
    come: Elements = dataclasses.field(default_factory=dict)
    lists_come: Lists = dataclasses.field(default_factory=dict)
    """In addition to the elements in `come`."""
    chains_gone: list[str] = dataclasses.field(default_factory=list)
    chains_come: dict[str, Rules] = dataclasses.field(default_factory=dict)
    chains_mended: dict[str, Rules] = dataclasses.field(default_factory=dict)
    """Those whose rules have changed."""
    sets_gone: list[str] = dataclasses.field(default_factory=list)
    sets_come: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Dynamic sets of addresses: the seconds after which each expires, and how many there may be."""


numbered = Struct("=I").pack
"""A number as `numgen` puts it into a register."""


def listed(key: bytes, values: Sequence[Value]) -> Iterator[tuple[bytes, Value]]:
    """The elements of a list."""
    return ((key + numbered(number), value) for number, value in enumerate(values))


def messages(family: str, table: str, batch: Batch, ranges: Container[str] = ()) -> list[Message]:
    """The batch for the kernel: objects are made before their uses, and uses removed before the objects.

    `ranges` are the names of the sets of ranges.
    """
    set_of, chain_of = functools.partial(Set, family, table), functools.partial(Chain, family, table)
    made = [rules.client_set_addition(set_of(name), *clients) for name, clients in batch.sets_come.items()]
    made += [rules.chain_addition(chain_of(name)) for name in batch.chains_come]
    made += [rules.rules_deletion(chain_of(name)) for name in batch.chains_mended]
    for name, chain in (batch.chains_come | batch.chains_mended).items():
        made += [rules.rule_addition(chain_of(name), rule) for rule in chain]
    for name, gone in batch.gone.items():
        packed = _of_ranges(gone) if name in ranges else _rows(list(gone), b"")
        made += elements.packed_deletion(set_of(name), packed)
    for name, come in batch.come.items():
        packed = _of_ranges(come) if name in ranges else _of_elements(come)
        made += elements.packed_addition(set_of(name), packed)
    for name, lists in batch.lists_come.items():
        made += elements.packed_addition(set_of(name), _of_lists(lists))
    # Rules first: one of these chains may lead to another.
    made += [rules.rules_deletion(chain_of(name)) for name in batch.chains_gone]
    made += [rules.chain_deletion(chain_of(name)) for name in batch.chains_gone]
    made += [rules.set_deletion(set_of(name)) for name in batch.sets_gone]
    return made


def _of_ranges(ranges: Mapping[bytes, Value]) -> Iterator[bytes]:
    return (
        elements.packed(Element(key, value[len(key) :], key_end=value[: len(key)]))
        for key, value in ranges.items()
        if isinstance(value, bytes)
    )


def _of_elements(found: Mapping[bytes, Value]) -> Iterator[bytes]:
    data: list[bytes] = []
    keys: defaultdict[Verdict, list[bytes]] = defaultdict(list)
    for key, value in found.items():
        if isinstance(value, Verdict):
            keys[value].append(key)
        else:
            data.append(value)
    if data:  # a map's values are all data or all verdicts
        yield from _rows(list(found), data[0], data)
    for verdict, alike in keys.items():
        yield from _rows(alike, verdict)


def _rows(keys: Sequence[bytes], value: Value, data: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Elements with these keys, whose data is the other column; without one they all have the `value`."""
    before, between = elements.frame(keys[0], value)
    most = elements.LONGEST // (len(before) + len(keys[0]) + len(between) + len(data and data[0]))
    for first in range(0, len(keys), most):
        chosen = keys[first : first + most]
        parts = [before, b"", between, b""] * len(chosen)
        parts[1::4] = chosen
        if data:
            parts[3::4] = data[first : first + most]
        yield b"".join(parts)


def _of_lists(lists: Mapping[bytes, Sequence[Value]]) -> Iterator[bytes]:
    before = between = b""
    numbers: list[bytes] = []
    most = 1
    for key, values in lists.items():
        if isinstance(values[0], Verdict):
            yield from _of_elements(dict(listed(key, values)))
            continue
        if not numbers:
            before, between = elements.frame(key + numbered(0), values[0])
            most = elements.LONGEST // (len(before) + len(key) + len(numbered(0)) + len(between) + len(values[0]))
        numbers += (numbered(number) + between for number in range(len(numbers), len(values)))
        head = before + key
        for first in range(0, len(values), most):
            chosen = values[first : first + most]
            parts = [head] * (3 * len(chosen))
            parts[1::3] = numbers[first : first + len(chosen)]
            parts[2::3] = chosen  # type: ignore[assignment]  # all are alike
            yield b"".join(parts)
