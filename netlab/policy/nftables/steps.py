"""In which order a change of elements takes place, so that packets on their way meet no gap. Pure.

A packet looks up one map after another, and the kernel answers each lookup from the state of that moment: a transaction
that takes effect in between leads it on from where the former state led it. So what is reached last comes first, and
what nothing leads to any more goes last, when the packets that were led there have passed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

from netlab.net.nftables.batch import Batch, Elements, Value

Unused: TypeAlias = Mapping[str, Callable[[bytes], bool]]
"""By a map's name: whether nothing leads to one of its keys any more, once a change is in force."""

_PARTS = ("profiles", "blocks", "peers", "themselves", "pods")
_ORDER = ("ports", "profiles", *(f"{side}-{part}" for part in _PARTS for side in ("ingress", "egress")))
"""An order of sets and maps in which what leads to something comes after it."""


def steps(batch: Batch, unused: Unused) -> Iterator[Batch]:
    """The batch in up to three transactions: what nothing leads to yet, what changes verdicts, what is left over."""
    fresh, spent = _numbers(batch.come), _numbers(batch.gone)
    both = fresh & spent
    (first, come), (last, gone) = (
        _divided(batch.come, {}, fresh - both),
        _divided(batch.gone, unused, spent - both),
    )
    yield from (each for each in (Batch(come=first), Batch(gone=gone, come=come), Batch(gone=last)) if _has(each))


def stages(batch: Batch) -> Iterator[Batch]:
    """The batch in parts, none of which admits what neither state does, for where it does not fit one transaction."""
    for name in _ORDER:
        come = batch.come.get(name, {})
        replaced = {key: value for key, value in batch.gone.get(name, {}).items() if key in come}
        if come:
            yield Batch(gone={name: replaced} if replaced else {}, come={name: come})
    for name in reversed(_ORDER):
        come = batch.come.get(name, {})
        if gone := {key: value for key, value in batch.gone.get(name, {}).items() if key not in come}:
            yield Batch(gone={name: gone})


def _numbers(elements: Elements) -> set[int]:
    """Those of profiles."""
    return {_number(key, sys.byteorder) for key in elements.get("profiles", {})}


def _number(key: bytes, order: Literal["big", "little"]) -> int:
    return int.from_bytes(key[:4], order)


def _divided(elements: Elements, unused: Unused, profiles: set[int]) -> tuple[Elements, Elements]:
    """The elements to which nothing leads, among them those profiles, and the others."""
    apart = {
        "profiles": lambda key: _number(key, sys.byteorder) in profiles,
        "ports": lambda key: _number(key, "big") in profiles,
        **unused,
    }
    one: Elements = {}
    other: Elements = {}
    for name, listed in elements.items():
        is_apart = apart.get(name)
        if is_apart is None:
            other[name] = listed
            continue
        found: dict[bytes, Value] = {key: value for key, value in listed.items() if is_apart(key)}
        if found:
            one[name] = found
        if len(found) < len(listed):
            other[name] = {key: value for key, value in listed.items() if key not in found}
    return one, other


def _has(batch: Batch) -> bool:
    return bool(batch.gone or batch.come)
