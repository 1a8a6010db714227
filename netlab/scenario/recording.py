"""What a check captured: a pcapng file, and a recording for each interface in it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from netlab.capture import pcapng
from netlab.capture.engine import Engine, Source
from netlab.capture.packets import Packet, decode, select
from netlab.capture.pcapng import Writer
from netlab.capture.taps import Tap
from netlab.counted import counted
from netlab.errors import NetlabError, NotFoundError
from netlab.lab.network_envoy import NetworkEnvoy
from netlab.lab.taps import make_socket, tapped
from netlab.scenario.interruption import uninterrupted

_LOOPBACK = "lo"


class Recording:
    """The packets of one interface, once the capture's block has ended."""

    def __init__(self, path: Path, tap: Tap) -> None:
        self.path = path
        """The pcapng file, which may have other interfaces as well."""
        self.tap = tap

    @functools.cached_property
    def packets(self) -> list[Packet]:
        """The IP packets, in order. Raises `NetlabError` if some were lost."""
        found = pcapng.read(self.path)
        lost = found.drops.get(self.tap, 0)
        if lost:
            raise NetlabError(f"{self.path}: {counted(lost, 'packet')} of {self.tap.name} lost during the capture")
        decoded = (decode(frame.data, frame.time) for frame in found.frames if frame.tap == self.tap)
        return [packet for packet in decoded if packet is not None]

    def select(self, **fields: object) -> list[Packet]:
        """The packets whose named fields have these values: `select(source=client.address, flags="S")`."""
        return select(self.packets, **fields)

    def first(self, **fields: object) -> str:
        """The first such packet in words (`SOURCE > DESTINATION TCP [S]`), or `nothing`."""
        return str(next(iter(self.select(**fields)), "nothing"))


def sources(networks: NetworkEnvoy, wanted: Sequence[tuple[str, str]]) -> list[Source]:
    """The `Engine` source for each (owner, interface) of a lab. Raises `NotFoundError` naming known ones."""
    found = tapped(networks)
    found |= {Tap(network.machine, network.owner, _LOOPBACK, "loopback"): network for network in set(found.values())}
    by_name = {(tap.owner, tap.interface): tap for tap in found}
    taps = [find(by_name, owner, interface) for owner, interface in wanted]
    return [Source(tap, make_socket(networks, found[tap])) for tap in taps]


def find(taps: Mapping[tuple[str, str], Tap], owner: str, interface: str) -> Tap:
    """The tap of that owner and interface. Raises `NotFoundError` naming the owner's."""
    tap = taps.get((owner, interface))
    if tap is None:
        known = ", ".join(sorted(name for of, name in taps if of == owner)) or "none"
        raise NotFoundError(f"{owner} has no interface {interface!r} that is up; it has {known}")
    return tap


@contextlib.contextmanager
def recording(path: Path, sources: Sequence[Source], expression: str) -> Iterator[list[Recording]]:
    """Write what passes the taps during the block to a file, however the block ends. Gives a recording for each tap.

    Raises what `Engine` and `Writer` raise.
    """
    taps = [source.tap for source in sources]
    with Engine(sources, expression) as engine, Writer(path, taps, expression=expression) as writer:
        try:
            yield [Recording(path, tap) for tap in taps]
        finally:
            with uninterrupted():
                engine.stop()
                for frame in engine.frames():
                    writer.write(frame)
                writer.statistics(engine.received, engine.drops)
