"""The ClusterRole aggregation controller: the rules of a role that is made of others."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netlab.api import selectors
from netlab.api.errors import ApiError
from netlab.api.rbac_types import ClusterRole, PolicyRule
from netlab.api.resources import CLUSTERROLES
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller


class ClusterRoleAggregator(Controller):
    """Gives each ClusterRole with an aggregationRule the rules of all that it selects."""

    name = "clusterrole-aggregation-controller"
    resource = CLUSTERROLES

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.cluster_roles.on_change(self._changed)

    def keys(self) -> Iterable[str]:
        """Every role that is made of others."""
        return [key for key, role in self.cluster.cluster_roles.items.items() if role.aggregationRule is not None]

    async def reconcile(self, key: str) -> None:
        """Bring the rules up to date."""
        role = self.cluster.cluster_roles.items.get(key)
        if role is None or role.aggregationRule is None:
            return
        wanted = aggregated(role, self.cluster.cluster_roles.items.values())
        if wanted == (role.rules or []):
            return
        try:
            await self.client.update(CLUSTERROLES, msgspec.structs.replace(role, rules=wanted))
        except ApiError as error:
            # It has changed or gone: the informer will tell.
            if error.reason not in ("NotFound", "Conflict"):
                raise

    def _changed(self, old: ClusterRole | None, new: ClusterRole | None) -> None:
        # Any of them may select the one that changed, and one selects another that selects it.
        for key in self.keys():
            self.queue.add(key)


def aggregated(role: ClusterRole, roles: Iterable[ClusterRole]) -> list[PolicyRule]:
    """The rules of all roles that a role selects, in the order of their names, each once."""
    rule = role.aggregationRule
    assert rule is not None
    chosen = [selectors.from_label_selector(each) for each in rule.clusterRoleSelectors]
    found: list[PolicyRule] = []
    for each in sorted(roles, key=lambda other: other.metadata.name):
        if each.metadata.name != role.metadata.name and any(one.matches(each.metadata.labels) for one in chosen):
            found += [own for own in each.rules or [] if own not in found]
    return found
