"""A table as the kernel has it, and how it differs from what it should have. Pure except what asks the kernel."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from netlab.net.netlink import NetlinkError
from netlab.net.nftables import dumps
from netlab.net.nftables.batch import Batch, Elements
from netlab.net.nftables.elements import Set
from netlab.net.nftables.schemas import Chain
from netlab.net.nftables.socket import Nfnetlink

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
    """Of the sets and maps that were asked for."""
    dormant: bool = False
    """None of it is in force: a process was killed while filling it."""


def read(netlink: Nfnetlink, family: str, table: str, names: Iterable[str]) -> Found | None:
    """The table at one moment, with the elements of these sets and maps; None if it does not exist.

    A set that has just grown a lot may not return all of its elements: the kernel is still moving them. Raises
    NetlinkError.
    """
    while True:
        before = netlink.generation()
        try:
            found = _read(netlink, family, table, names, before)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            found = None
        if netlink.generation() == before:
            return found


def _read(netlink: Nfnetlink, family: str, table: str, names: Iterable[str], generation: int) -> Found:
    (answer,) = netlink.ask(dumps.table_request(family, table))
    sets = frozenset(dumps.sets_of(netlink.ask(dumps.sets_request(family, table)), table))
    found: Elements = {}
    for name in sets.intersection(names):
        if dumped := netlink.dump(Set(family, table, name)):
            found[name] = dumped
    comment, dormant = dumps.table_comment(answer), dumps.table_is_dormant(answer)
    return Found(generation, comment, digests(netlink, family, table), sets, found, dormant)


def digests(netlink: Nfnetlink, family: str, table: str) -> Digests:
    """The digests of a table's chains. Raises NetlinkError."""
    found = dict.fromkeys(dumps.chains_of(netlink.ask(dumps.chains_request(family)), table), (0, ""))
    for chain, expressions in dumps.rules_of(netlink.ask(dumps.rules_request(family, table)), table):
        count, digest = found[chain]
        found[chain] = (count + 1, hashlib.blake2s(digest.encode() + expressions).hexdigest())
    return found


def difference(found: Elements, wanted: Elements, names: Iterable[str]) -> Batch:
    """The batch that brings the elements of these sets and maps from one state to the other."""
    batch = Batch()
    for name in names:
        there, ought = found.get(name, {}), wanted.get(name, {})
        if there == ought:
            continue
        gone = {key: value for key, value in there.items() if ought.get(key) != value}
        come = {key: value for key, value in ought.items() if there.get(key) != value}
        if gone:
            batch.gone[name] = gone
        if come:
            batch.come[name] = come
    return batch


def is_damaged(found: Found, sets: Iterable[str], chains: Iterable[Chain], known: Digests) -> bool:
    """Whether one of these sets or chains is missing, or a chain has other rules.

    `known` are the digests that chains had when they were made, as far as that is known.
    """
    return not found.sets.issuperset(sets) or any(
        name not in found.chains or found.chains[name] != known.get(name, (len(rules), found.chains[name][1]))
        for name, rules, _ in chains
    )
