"""All Services' frontends of one family, as Services come and go. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from netlab.api.cluster import Cluster
from netlab.net.addresses import Family
from netlab.proxy.plan import Change, Frontend, NodeInfo, Target, Transaction
from netlab.proxy.planner import node_info, plan_service
from netlab.proxy.values import PlanError


class Book:
    """Who holds a frontend that several Services claim, and what has changed.

    The oldest Service holds it (among equals, the one with the smaller key), whatever the order in which they came.
    """

    def __init__(self) -> None:
        self.plan: dict[Frontend, Target] = {}
        self._before: dict[Frontend, Target | None] = {}
        self._services: dict[str, Mapping[Frontend, Target]] = {}
        self._ages: dict[str, tuple[str, str]] = {}
        self._claims: dict[Frontend, tuple[str, ...]] = {}

    def set_service(self, key: str, created: str, frontends: Mapping[Frontend, Target]) -> list[PlanError]:
        """Replace a Service's frontends (none: it is gone); returns the conflicts it is part of.

        The mapping is kept and must no longer change.
        """
        before = self._services.pop(key, {})
        self._ages.pop(key, None)
        if frontends:
            self._services[key], self._ages[key] = frontends, (created, key)
        for frontend in before:
            if frontend not in frontends:
                self._settle(frontend, tuple(claim for claim in self._claims[frontend] if claim != key))
        conflicts = []
        for frontend in frontends:
            claims = self._claims.get(frontend, ())
            holder = self._settle(frontend, claims if key in claims else (*claims, key))
            if holder != key:
                conflicts.append(PlanError(f"Service {key}: {frontend} belongs to Service {holder}; ignored"))
        return conflicts

    def take_changes(self) -> Transaction:
        """The difference from the plan at the last call; takes time in proportion to what changed."""
        changes = [Change(frontend, old, self.plan.get(frontend)) for frontend, old in self._before.items()]
        self._before = {}
        return tuple([change for change in changes if change.old != change.new])

    def _settle(self, frontend: Frontend, claims: tuple[str, ...]) -> str | None:
        self._before.setdefault(frontend, self.plan.get(frontend))
        if not claims:
            del self._claims[frontend], self.plan[frontend]
            return None
        self._claims[frontend] = claims
        holder = claims[0] if len(claims) == 1 else min(claims, key=self._ages.__getitem__)
        self.plan[frontend] = self._services[holder][frontend]
        return holder


def plan_of(cluster: Cluster, node_name: str, family: Family) -> dict[Frontend, Target]:
    """The plan that a node's proxy makes of a cluster; the errors of its objects go to the proxy's log."""
    node = cluster.nodes.get(node_name)
    info, book = node_info(node) if node is not None else NodeInfo(node_name), Book()
    for key, service in cluster.services.items():
        planned = plan_service(service, cluster.slices.get(key, ()), info, family)
        book.set_service(key, service.metadata.creationTimestamp or "", planned.frontends)
    return book.plan
