"""What really happens to a probe: sends it while watching all taps, nftables and connection tracking."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from netlab.capture.correlate import Journey, journeys, known, sighting
from netlab.capture.engine import Engine, Source
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap
from netlab.errors import UnsupportedError
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.taps import make_socket
from netlab.net.addresses import packed
from netlab.net.conntrack.events import Events
from netlab.net.netlink import NETLINK_NETFILTER, NetlinkError
from netlab.net.route.vxlan import VXLAN_PORT
from netlab.trace import counters, rules
from netlab.trace.nftrace import Pattern, Signature, Tracer
from netlab.trace.probe import Result, Sender
from netlab.trace.rules import Chain, Passage

_SETTLING = 0.05
"""Seconds for the last copies of a packet to pass their taps."""


class Observation(NamedTuple):
    """What was seen of a probe.

    `journeys` are those of its connection, in the order in which they began. `passages` are the ways through nftables,
    `texts` the text of rules and `networks` the CNI networks by the addresses that they masquerade, both by namespace.
    `thrown` says why the kernel dropped packets in the meantime (not only the probe's), by namespace. `lost` says that
    the kernel reported more than was read.
    """

    result: Result
    journeys: list[Journey]
    passages: list[Passage]
    texts: Mapping[str, Mapping[tuple[Chain, int], str]]
    networks: Mapping[str, Mapping[bytes, str]]
    thrown: Mapping[str, list[str]]
    lost: bool


class Watch:
    """Watches taps and their namespaces, from its creation until `finish`. Use it as a context manager.

    `tracked` are the owners of the namespaces in which connection tracking is on. Raises what the engine raises, and
    `UnsupportedError` where the kernel cannot trace.
    """

    def __init__(
        self, envoy: NetworkEnvoy, taps: Mapping[Tap, Network], tracked: Collection[str], signature: Signature
    ) -> None:
        self._envoy = envoy
        self._namespaces = list(dict.fromkeys(taps.values()))
        self._signature = signature
        self._tracers: dict[Network, Tracer] = {}
        self._events: dict[Network, Events] = {}
        with contextlib.ExitStack() as stack:
            for network in self._namespaces:
                make = partial(envoy.socket, network)
                here = network.owner in tracked
                try:
                    self._tracers[network] = stack.enter_context(Tracer(signature, make, tracked=here))
                    if here:
                        self._events[network] = stack.enter_context(
                            Events(make(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
                        )
                except NetlinkError as error:
                    raise UnsupportedError(f"{network.owner}: cannot trace its rules: {error}") from error
            sources = [Source(tap, make_socket(envoy, network)) for tap, network in taps.items()]
            self._engine = stack.enter_context(Engine(sources, expression(signature)))
            self._before = {network: envoy.run(network, counters.read) for network in self._namespaces}
            self._stack = stack.pop_all()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        # In parallel: for each table that it removes with a socket, the kernel waits for every processor.
        with ThreadPoolExecutor(max(len(self._tracers), 1)) as threads:
            list(threads.map(Tracer.close, self._tracers.values()))
        self._stack.close()

    def finish(self, sender: Sender, result: Result, stations: Mapping[tuple[str, str], str]) -> Observation:
        """What was seen of the sender's probe.

        `stations` are the interfaces that accept only frames for themselves: their MAC addresses, by owner and name.
        """
        time.sleep(_SETTLING)
        self._engine.stop()
        frames = _heeded(list(self._engine.frames()), stations)
        sightings = [each for frame in frames if (each := sighting(*frame[:4])) is not None]
        translations = [
            # Without the event's time, which is later than that of its packets.
            known(network.owner, event.entry)
            for network, events in self._events.items()
            for event in events.read()
        ]
        found = _of(sender, journeys(sightings, translations))
        lost = any(tracer.lost for tracer in self._tracers.values()) or any(self._engine.drops.values())
        passages: dict[Network, list[Passage]] = {
            network: rules.passages(network.owner, tracer.steps(), self._signature, tracer.table)
            for network, tracer in self._tracers.items()
        }
        thrown = {
            network.owner: list(counters.reasons(before, self._envoy.run(network, counters.read)))
            for network, before in self._before.items()
        }
        return Observation(
            result,
            found,
            [each for listed in passages.values() for each in listed],
            {
                network.owner: self._envoy.run(network, rules.read_texts, listed)
                for network, listed in passages.items()
                if listed
            },
            {
                network.owner: self._envoy.run(network, rules.networks_of, _sources(listed))
                for network, listed in passages.items()
                if listed
            },
            thrown,
            lost,
        )


def _sources(passages: Iterable[Passage]) -> list[bytes]:
    return list(dict.fromkeys(flow[0] for passage in passages for flow in passage.flows))


def _heeded(frames: Sequence[Frame], stations: Mapping[tuple[str, str], str]) -> list[Frame]:
    """The frames without copies that their receivers ignore.

    A bridge that has not learnt a MAC address yet sends a frame to all its ports, so that others get copies.
    """

    def is_for_another(frame: Frame) -> bool:
        mac = stations.get((frame.tap.owner, frame.tap.interface), "")
        group = frame.data[0] & 1
        return bool(mac) and not frame.outgoing and not group and frame.data[:6].hex(":") != mac

    strays = {(frame.tap.peer, frame.data) for frame in frames if is_for_another(frame)}
    return [
        frame
        for frame in frames
        if not is_for_another(frame) and not (frame.outgoing and (frame.tap.name, frame.data) in strays)
    ]


def _of(sender: Sender, found: Iterable[Journey]) -> list[Journey]:
    """The journeys of the sender's connection."""
    address, port = sender.destination
    client = (packed(sender.source), sender.source_port, packed(address), port or sender.source_port)
    return [journey for journey in found if journey.client == client]


def expression(signature: Signature) -> str:
    """What the taps record, as a pcap-filter(7) expression: the probe, its answers, and any ICMP error."""
    if signature.protocol in (1, 58):
        return "icmp or icmp6"
    if signature.protocol == 17:
        # An answer may have any bytes; the filter itself looks into tunnels.
        return f"(udp and not port {VXLAN_PORT}) or icmp or icmp6"
    tests = [test for pattern in signature.patterns for test in _tests(pattern)]
    return " or ".join([*tests, "icmp", "icmp6"])


def _tests(pattern: Pattern) -> Iterable[str]:
    first, last = (int.from_bytes(value, "big") for value in (pattern.first, pattern.last))
    for field in (f"tcp[{pattern.offset}:4]", f"ip6[{40 + pattern.offset}:4]"):
        within = f"{field} >= {first} and {field} <= {last}"
        yield f"(ip6 proto 6 and {within})" if field.startswith("ip6") else f"({within})"
