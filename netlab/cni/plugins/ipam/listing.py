"""Reading every network's reservations: what `netlab cni ipam list` shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from netlab.cni.plugins.ipam.store import DATA_DIR, Reservation, Store, read_boot_id
from netlab.cni.spec.addresses import parse_address
from netlab.cni.spec.errors import CniError


@dataclasses.dataclass(frozen=True)
class RangeSet:
    """A set of ranges that gives one address to an interface, as of the latest ADD."""

    ranges: str
    """`10.244.1.1-10.244.1.254`, several separated by commas."""
    size: int
    """The number of addresses it can give."""


@dataclasses.dataclass(frozen=True)
class NetworkReservations:
    """One network of a `dataDir`."""

    name: str
    sets: list[RangeSet]
    reservations: list[Reservation]
    """IPv4 before IPv6, in the order of the addresses."""
    dead: bool
    """They date from an earlier boot of the node; the next ADD drops them."""
    foreign: list[str]
    """Files in the network's folder that are not reservations; an address of such a name is never given."""


def networks(data_dir: Path = Path(DATA_DIR)) -> list[NetworkReservations]:
    """Every network with reserved addresses in `data_dir`, by name; skips folders that are not netlab's.

    Raises `OSError` if something cannot be read.
    """
    try:
        names = sorted(path.parent.name for path in data_dir.glob("*/.state"))
    except NotADirectoryError:
        return []
    return [_read(data_dir, name) for name in names]


def _read(data_dir: Path, name: str) -> NetworkReservations:
    with Store(f"{data_dir}/{name}") as store:
        reservations, foreign = store.reservations()
        state = store.state
    reservations.sort(key=lambda one: parse_address(one.address)[::-1])
    return NetworkReservations(
        name=name,
        sets=[_parse_set(text) for text in state.sets],
        reservations=reservations,
        dead=_is_other_boot(state.boot_id, state.boot_id_file),
        foreign=sorted(foreign),
    )


def _parse_set(text: str) -> RangeSet:
    size, _, ranges = text.partition("=")
    return RangeSet(ranges, int(size) if size.isdecimal() else 0)


def _is_other_boot(boot_id: str, path: str) -> bool:
    try:
        return bool(boot_id) and read_boot_id(path) != boot_id
    except CniError:  # the boot id cannot be read
        return False
