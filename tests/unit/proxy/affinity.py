"""What session affinity promises, told once: of the traced plan and of the live packets."""

from __future__ import annotations

import abc
import dataclasses

from netlab.api.core_types import ClientIPConfig, SessionAffinityConfig
from netlab.api.discovery_types import EndpointConditions
from netlab.net.addresses import Family
from netlab.proxy.plan import Plan
from netlab.proxy.planner import plan_service
from tests.unit.proxy.flows import BOTH, NODE_INFO, READY, Variant, service_of, slices_of

AFFINE = Variant("affine", 51, BOTH)
_LOCAL = dataclasses.replace(AFFINE, external="Local")
KINDS = ("clusterIP", "nodePort", "externalIP", "loadBalancer")
_LONG = 3600
_SHORT = 1


class Plans(abc.ABC):
    """A data plane that holds the Service `affine`, and the clients that dial it."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.plan: Plan = {}

    def change(self, backends: dict[str, EndpointConditions], seconds: int, variant: Variant = AFFINE) -> None:
        """Give the Service other endpoints, another policy, or another time for which a client is remembered."""
        service = service_of(variant)
        service.spec.sessionAffinity = "ClientIP"
        service.spec.sessionAffinityConfig = SessionAffinityConfig(ClientIPConfig(seconds))
        self.plan = plan_service(service, slices_of("affine", backends), NODE_INFO, self.family).frontends
        self.put()

    @abc.abstractmethod
    def dial(self, origin: str, kind: str) -> str:
        """The backend that answers."""

    @abc.abstractmethod
    def restart(self) -> None:
        """Start the data plane anew, with the plan that it holds."""

    @abc.abstractmethod
    def put(self) -> None:
        """Bring the data plane to the plan, by the difference to what it holds."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> None:
        """Let time pass."""


def keeps_its_pod(plane: Plans) -> None:
    """A client of a Service with ClientIP affinity has one pod, by whichever frontend it comes, until its time is over.

    The affinity is of a Service's port, not of a frontend ("Virtual IPs and Service Proxies", "Session affinity").
    """
    plane.change(BOTH, _LONG)
    mine, theirs = plane.dial("c", "clusterIP"), plane.dial("outside", "nodePort")
    for _ in range(6):
        assert {plane.dial("c", kind) for kind in KINDS} == {mine}
        assert {plane.dial("outside", kind) for kind in KINDS} == {theirs}

    plane.restart()
    assert {plane.dial("c", kind) for kind in KINDS} == {mine}

    # From outside the policy Local leaves one pod, whatever is remembered; pods of the cluster may keep theirs.
    plane.change(BOTH, _LONG, _LOCAL)
    assert {plane.dial("outside", kind) for kind in KINDS if kind != "clusterIP"} == {"a"}
    assert {plane.dial("c", kind) for kind in KINDS} == {mine}
    plane.change(BOTH, _LONG)

    # Its pod is gone: another one, which it keeps although the first comes back.
    other = "b" if mine == "a" else "a"
    plane.change({other: READY}, _LONG)
    assert plane.dial("c", "clusterIP") == other
    plane.change(BOTH, _LONG)
    for _ in range(6):
        assert {plane.dial("c", kind) for kind in KINDS} == {other}

    # Once it is forgotten, any pod may come: each of these has one chance in two.
    plane.change(BOTH, _SHORT)
    last = plane.dial("c", "clusterIP")
    for _ in range(40):
        plane.wait(_SHORT + 0.5)
        if plane.dial("c", "clusterIP") != last:
            return
    raise AssertionError("a client is never forgotten")
