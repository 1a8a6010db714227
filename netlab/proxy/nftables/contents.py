"""The part of a table that depends on the plan: as a value, and with the rest as text for `nft`. Pure."""

from __future__ import annotations

from typing import NamedTuple

from netlab.net.nftables.batch import Elements
from netlab.proxy.nftables.chains import Clients, PlannedChain
from netlab.proxy.nftables.fixed import TABLE, Layout


class Contents(NamedTuple):
    """The elements, chains and sets that come and go with Services."""

    elements: Elements
    chains: dict[str, PlannedChain]
    sets: dict[str, Clients]


def whole(layout: Layout, contents: Contents) -> str:
    """A script that replaces the table, if there is one, in one transaction.

    Established connections go on: connection tracking has their translation, not the table.
    """
    table = f"{layout.ip} {TABLE}"
    lines = [f"add table {table}", f"delete table {table}", layout.script()]
    lines += [f"add set {table} {name} {{ {clients.text} }}" for name, clients in contents.sets.items()]
    lines += [f"add chain {table} {name}" for name in contents.chains]
    lines += [f"add rule {table} {name} {rule}" for name, chain in contents.chains.items() for rule in chain.texts]
    for name, elements in contents.elements.items():
        texts = ", ".join(layout.schemas[name].text(key, value) for key, value in elements.items())
        lines.append(f"add element {table} {name} {{ {texts} }}")
    return "\n".join(lines) + "\n"
