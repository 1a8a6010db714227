"""A capture of a lab: it follows the taps as pods come and go, and the events of connection tracking."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from netlab.api.cluster import read
from netlab.api.errors import ApiUnavailableError
from netlab.capture.changes import Change
from netlab.capture.connections import Translation, known, told
from netlab.capture.correlate import Journey
from netlab.capture.engine import Engine, Source
from netlab.capture.filters import attach, compile_filter
from netlab.capture.headers import Headers
from netlab.capture.ring import SNAPLEN
from netlab.capture.taps import Tap
from netlab.descriptors import Closing, allow_many, readable
from netlab.errors import NotFoundError
from netlab.lab.lab import Lab
from netlab.lab.names import Names
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.selection import Selection, exists, expression, includes, own_addresses
from netlab.lab.taps import make_socket, tapped
from netlab.net.conntrack.entries import entries
from netlab.net.conntrack.events import Events
from netlab.net.multicast import RTNLGRP_LINK, Notices
from netlab.net.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

LOOK = 1.0
"""Seconds between reads of the API's objects. The kernel reports a new interface at once."""

_CLOSING = 32
"""The number of threads that close sockets."""


class Watch(Closing):
    """Watches a selection of a lab from its creation. Close it, or use it as a context manager.

    Create it while the process is single-threaded. `names` are as of the last read of the objects.
    """

    def __init__(self, lab: Lab, selection: Selection, given: str = "") -> None:
        """`given` is an additional filter (pcap-filter(7)) for packets.

        Raises `UsageError` for an invalid filter, `NotFoundError` or `UnavailableError` when the lab is not up, and
        what `Engine` raises.
        """
        compile_filter(given)  # alone, so that an error message is only about the given filter
        allow_many()  # the 300 taps of a lab with 100 pods need more than the default 1,024
        self._lab = lab
        self._selection = selection
        self._given = given
        self._spec = lab.spec()
        self._envoy = NetworkEnvoy(lab)
        self._events: dict[str, Events] = {}
        """The events of connection tracking, by node."""
        self._links: list[Notices] = []
        """Readable when an interface of a machine appears or disappears."""
        self._sockets: dict[Tap, socket.socket] = {}
        self._next_look = time.monotonic() + LOOK
        with contextlib.ExitStack() as undo:
            undo.callback(self._release)
            cluster = read(lab.client())
            self.names = Names(cluster, self._spec.outside_addresses)
            self._own = own_addresses(selection, cluster)
            self._expression = self._combined(expression(selection, cluster, self._spec.podCIDRs))
            for machine in self._envoy.machines():
                made = self._envoy.socket(machine, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
                self._links.append(Notices(NETLINK_ROUTE, [RTNLGRP_LINK], made=made))
            found = self._found()
            self.engine = Engine(
                [Source(tap, self._make(tap, network)) for tap, network in found.items()], self._expression
            )
            undo.callback(self.engine.close)
            for machine in self._envoy.machines():
                if machine.owner in self._spec.node_names:
                    made = self._envoy.socket(machine, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
                    self._events[machine.owner] = Events(made)
            self._taps = set(found)
            undo.pop_all()

    def close(self) -> None:
        """End it at once. May be called again."""
        self.engine.close()
        self._release()

    @property
    def taps(self) -> frozenset[Tap]:
        """All taps that are, or were, watched."""
        return frozenset(self._taps)

    @property
    def expression(self) -> str:
        """The current filter."""
        return self._expression

    def concerns(self, journey: Journey) -> bool:
        """Whether a packet belongs to the selection. A filter cannot tell if several senders share a node's address."""
        if not self._own:
            return True
        ends = {journey.client[0], journey.client[2]}
        for seen in journey.sightings:
            headers = seen.headers.quoted or seen.headers
            ends |= {headers.source, headers.destination}
        return not self._own.isdisjoint(ends)

    def cause(self, before: Headers, after: Headers, change: Change) -> Change:
        """A change with its cause, from `Names.cause`, as of the last read of the objects."""
        return self.names.cause(before, after, change)

    def known(self) -> list[Translation]:
        """The connections that the nodes track now."""
        return [
            known(machine.owner, each)
            for machine in self._envoy.machines()
            if machine.owner in self._events
            for each in self._envoy.run(machine, entries)
        ]

    def heard(self) -> list[Translation]:
        """What the nodes' connection tracking has reported since the last call; does not wait."""
        found: list[Translation] = []
        for node, events in self._events.items():
            lost = events.lost
            for event in events.read():
                if event.kind != "update":
                    found.append(told(node, event))
            if events.lost > lost:  # some events were lost: read all current entries
                found += [known(node, each) for each in self._envoy.run(Network(node, node), entries)]
        return found

    def wait(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until there may be frames, or interfaces have appeared or disappeared."""
        readable(self.engine.fileno(), *(each.fileno() for each in self._links), timeout=timeout)

    def keep_up(self) -> list[Tap]:
        """Add taps for new interfaces, and update the filter. Returns the new taps.

        It does so only when an interface has changed or LOOK has passed. Raises `NotFoundError` when the selected
        object is gone, `UnavailableError` when the lab has ended.
        """
        now = time.monotonic()
        if not self._links_changed() and now < self._next_look:
            return []
        self._next_look = now + LOOK
        try:
            cluster = read(self._lab.client())
            if not exists(self._selection, cluster):
                raise NotFoundError(f"{self._selection} has been deleted")
            self.names = Names(cluster, self._spec.outside_addresses)
            self._refilter(self._combined(expression(self._selection, cluster, self._spec.podCIDRs)))
            return self._tap_new()
        except ApiUnavailableError:
            self._lab.require_up()  # if it is, the API server is being restarted
            return []

    def _tap_new(self) -> list[Tap]:
        added = []
        _close([self._sockets.pop(tap) for tap in self.engine.gone if tap in self._sockets])
        for tap, network in self._found().items():
            # An interface that disappeared and came back with the same name (a pod's next sandbox) is tapped again.
            if tap not in self._taps or tap in self.engine.gone:
                with contextlib.suppress(NotFoundError):  # it is gone again
                    self.engine.add(Source(tap, self._make(tap, network)))
                    self._taps.add(tap)
                    added.append(tap)
        if added and self._expression != self.engine.expression:
            self._attach(added)
        return added

    def _found(self) -> dict[Tap, Network]:
        return {tap: network for tap, network in tapped(self._envoy).items() if includes(self._selection, tap)}

    def _make(self, tap: Tap, network: Network) -> socket.socket:
        made = make_socket(self._envoy, network)
        if self._selection.kind in ("pod", "service"):
            self._sockets[tap] = made.dup()  # its filter must change with the objects
        return made

    def _refilter(self, wanted: str) -> None:
        if wanted != self._expression:
            self._expression = wanted
            self._attach(list(self._sockets))

    def _attach(self, taps: list[Tap]) -> None:
        program = compile_filter(self._expression)
        for tap in taps:
            attach(self._sockets[tap], program, SNAPLEN)

    def _combined(self, own: str) -> str:
        return f"({own}) and ({self._given})" if own and self._given else own or self._given

    def _links_changed(self) -> bool:
        lost = sum(each.lost for each in self._links)
        told = [each.datagrams() for each in self._links]
        return any(told) or sum(each.lost for each in self._links) > lost

    def _release(self) -> None:
        for notices in (*self._events.values(), *self._links):
            notices.close()
        _close(list(self._sockets.values()))
        self._envoy.close()


def _close(sockets: Sequence[socket.socket]) -> None:
    """Close in parallel: for each packet socket the kernel waits about 20 ms for all processors (synchronize_net)."""
    if sockets:
        with ThreadPoolExecutor(_CLOSING) as threads:
            list(threads.map(socket.socket.close, sockets))
