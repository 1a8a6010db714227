"""What a speaker knows of its node, from the proxy beside it (netlab.proxy.run.Follower)."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping

from netlab.api import load_balancers
from netlab.api.core_types import Node, Service
from netlab.speaker.wanted import has_endpoints, takes_traffic, wanted


class Known:
    """Services with addresses, this Node, and what the proxy has in force."""

    def __init__(self) -> None:
        self.changed, self.begun = asyncio.Event(), asyncio.Event()
        """Something is not what it was; there is something to do, and enough is known to do it."""
        self._services: dict[str, Service] = {}
        self._node: Node | None = None
        self._local: Mapping[str, int] = {}
        self._pending: set[str] = set()
        """Services that changed since the last sync of the proxy."""
        self._synced = False

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """A Service appeared, changed or went away."""
        if new is not None and load_balancers.is_ours(new) and new.status.loadBalancer.ingress:
            self._services[new.key] = new
            self._pending.add(new.key)
        elif (known := new or old) is None or self._services.pop(known.key, None) is None:
            return
        self._wake()

    def node_changed(self, _old: Node | None, new: Node | None) -> None:
        """This node appeared, changed or went away."""
        self._node = new
        self._wake()

    def synced(self, local: Mapping[str, int], waiting: Container[str]) -> None:
        """What this was told is in force, but for the `waiting` Services.

        `local` is how many ready endpoints Services with externalTrafficPolicy Local have on this node.
        """
        pending = {key for key in self._pending if key in waiting}
        if not self._synced or local != self._local or pending != self._pending:
            self._synced, self._local, self._pending = True, local, pending
            self._wake()

    def wanted(self, networks: tuple[str, ...]) -> dict[str, list[Service]]:
        """The addresses of the networks that are to be announced, each with its Services."""
        return wanted(self._services.values(), networks)

    def may_announce(self, services: list[Service]) -> bool:
        """Whether this node may announce the address of these Services."""
        return takes_traffic(self._node) and has_endpoints(services, self._local)

    def in_force(self, services: list[Service]) -> bool:
        """Whether the proxy's rules for them are."""
        return not any(each.key in self._pending for each in services)

    def _wake(self) -> None:
        # Before the first rules are in force nothing is known of endpoints here: what was announced before is kept.
        if self._services and self._synced:
            self.begun.set()
        self.changed.set()
