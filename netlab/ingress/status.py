"""What is written about Ingresses: where they are reached, and Events about what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from netlab.api.client import Client
from netlab.api.errors import unless_gone
from netlab.api.events import WARNING, record
from netlab.api.networking_types import Ingress, IngressLoadBalancerIngress
from netlab.api.resources import INGRESSES
from netlab.ingress.rules import Plan, Problem

COMPONENT = "netlab-ingress"

log = logging.getLogger(__name__)


class Status:
    """Writes what follows from a plan that is in force. Two that serve the same write the same."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._said: dict[str, tuple[Problem, ...]] = {}

    async def write(self, plan: Plan, ingresses: Mapping[str, Ingress], addresses: Sequence[str]) -> None:
        """Say where each Ingress is reached, and what is wrong with it. Raises as the client does."""
        for key, problems in plan.problems.items():
            if self._said.get(key) != problems and (ingress := ingresses.get(key)) is not None:
                for problem in problems:
                    if problem not in self._said.get(key, ()):
                        await record(self._client, ingress, WARNING, problem.reason, problem.message, COMPONENT)
        self._said = dict(plan.problems)
        ours = [IngressLoadBalancerIngress(ip=each) for each in addresses]
        for key, ingress in list(ingresses.items()):
            present = ingress.status.loadBalancer.ingress
            if key in plan.served and present != ours:
                await self._write(ingress, ours)
            elif key not in plan.served and ours and present == ours:
                # It is of another class now, and whoever serves that has not said so yet.
                await self._write(ingress, [])

    async def _write(self, ingress: Ingress, addresses: list[IngressLoadBalancerIngress]) -> None:
        meta = ingress.metadata
        written = msgspec.to_builtins(addresses) or None
        change = {"metadata": {"uid": meta.uid}, "status": {"loadBalancer": {"ingress": written}}}
        await unless_gone(self._client.patch(INGRESSES, meta.name, meta.namespace, change, subresource="status"))
