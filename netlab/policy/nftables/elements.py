"""A plan, or a change of one, as elements of one family's table. Pure."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from struct import Struct

from netlab.net.addresses import Family, family_of, packed
from netlab.net.nftables.batch import Batch, Elements, Value
from netlab.policy.nftables.steps import Unused
from netlab.policy.plan import ANY_CLASS, Judged, Key, Place, Plan, Profiles, Range, Transaction
from netlab.policy.ports import EVERYTHING, OTHERS, Ports
from netlab.policy.rules import DIRECTIONS, Direction

_NUMBER = Struct("=I").pack
_NUMBER_OF_RANGE = Struct("!I").pack
"""nft has numbers in network byte order where a key may be a range, and converts them in rules."""
_PORT = Struct("!BxxxHxx").pack
_IP_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_OTHERS = ((0, 5), (7, 16), (18, 131), (133, 255))
"""The protocols of IP that are none of these."""


def contents(plan: Plan, profiles: Profiles, family: Family) -> Elements:
    """All elements of a plan."""
    found: Elements = {}
    for place, table in plan.items():
        if place.part == "profiles":  # of which there may be very many
            if elements := _of_profiles(table, family):
                found[f"{place.direction.lower()}-profiles"] = elements
            continue
        for key, value in table.items():
            _fill(found, _of_key(place, key, value, family))
    for number, ports in profiles.items():
        _fill(found, _of_profile(number, ports))
    return found


def _of_profiles(table: Mapping[Key, int], family: Family) -> dict[bytes, Value]:
    pack = functools.cache(packed)
    number = functools.cache(_NUMBER)
    wide = family == "IPv6"
    judged = ((key, value) for key, value in table.items() if isinstance(key, Judged))
    return {
        number(key.peers) + pack(key.address): number(value) for key, value in judged if (":" in key.address) == wide
    }


def change(transaction: Transaction, family: Family) -> Batch:
    """What a change of elements is."""
    batch = Batch()
    for place, changes in transaction.changes.items():
        for key, (old, new) in changes.items():
            _fill(batch.gone, _of_key(place, key, old, family))
            _fill(batch.come, _of_key(place, key, new, family))
    for number, (was, now) in transaction.profiles.items():
        _fill(batch.gone, _of_profile(number, was))
        _fill(batch.come, _of_profile(number, now))
    return batch


def no_longer_used(transaction: Transaction, family: Family) -> Unused:
    """What nothing leads to once a change is in force: classes without members, and pods that judge nobody."""
    found: dict[str, Callable[[bytes], bool]] = {}
    for direction in DIRECTIONS:
        classes = {_NUMBER(number) for number in transaction.unused.get(direction, ())}
        pods = transaction.changes.get(Place("pods", direction), {})
        gone = {
            packed(key)
            for key, (_, new) in pods.items()
            if new is None and isinstance(key, str) and family_of(key) == family
        }
        found |= _apart(direction, classes.__contains__, gone.__contains__)
    return found


def unused(wanted: Elements) -> Unused:
    """The same of what is not in a table's contents."""
    found: dict[str, Callable[[bytes], bool]] = {}
    for direction in DIRECTIONS:
        prefix = direction.lower()
        listed = [*wanted.get(f"{prefix}-peers", {}).values(), *wanted.get(f"{prefix}-blocks", {}).values()]
        classes = {_NUMBER(ANY_CLASS), *(value[-4:] for value in listed if isinstance(value, bytes))}
        pods = wanted.get(f"{prefix}-pods", {})
        found |= _apart(direction, _not_in(classes), _not_in(pods))
    return found


def _not_in(found: Container[bytes]) -> Callable[[bytes], bool]:
    return lambda key: key not in found


def _apart(
    direction: Direction, of_class: Callable[[bytes], bool], of_pod: Callable[[bytes], bool]
) -> dict[str, Callable[[bytes], bool]]:
    prefix = direction.lower()
    return {
        f"{prefix}-profiles": lambda key: of_class(key[:4]) or of_pod(key[4:]),
        f"{prefix}-themselves": lambda key: of_pod(key[: len(key) // 2]),
    }


def _fill(elements: Elements, items: Iterable[tuple[str, bytes, Value]]) -> None:
    for name, key, value in items:
        elements.setdefault(name, {})[key] = value


def _of_key(place: Place, key: Key, value: int | None, family: Family) -> Iterator[tuple[str, bytes, Value]]:
    """The elements for what a key of the plan leads to; none if it is of the other family, or leads to nothing."""
    prefix = place.direction.lower()
    name = f"{prefix}-{place.part}"
    address = key if isinstance(key, str) else key.address if isinstance(key, Judged) else key.first
    if value is None or family_of(address) != family:
        return
    if isinstance(key, Judged):
        yield name, _NUMBER(key.peers) + packed(address), _NUMBER(value)
    elif isinstance(key, Range):
        yield name, _NUMBER_OF_RANGE(0) + packed(key.first), _NUMBER_OF_RANGE(0) + packed(key.last) + _NUMBER(value)
    elif place.part == "peers":
        yield name, packed(address), _NUMBER(value)
    else:
        yield name, packed(address), b""
        yield f"{prefix}-themselves", packed(address) * 2, b""


def _of_profile(number: int, ports: Ports | None) -> Iterator[tuple[str, bytes, Value]]:
    if ports is None:
        return
    yield "profiles", _NUMBER(number), b""
    profile = _NUMBER_OF_RANGE(number)
    for first, last in _boxes(ports):
        yield "ports", profile + first, profile + last


def _boxes(ports: Ports) -> Iterable[tuple[bytes, bytes]]:
    if ports == EVERYTHING:
        yield _PORT(0, 0), _PORT(255, 65535)
        return
    for protocol, first, last in ports:
        for low, high in _OTHERS if protocol == OTHERS else ((_IP_PROTOCOLS[protocol],) * 2,):
            yield _PORT(low, first), _PORT(high, last)
