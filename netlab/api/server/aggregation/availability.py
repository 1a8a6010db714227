"""Whether the server of an APIService can be asked, as far as objects tell (kube-aggregator controllers/status)."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.registration_types import ServiceReference
from netlab.api.server.objects.registration import Verdict

PASSED = Verdict(True, "Passed", "all checks passed")


def unasked(why: str) -> Verdict:
    """Of one whose server does not answer as it has to."""
    return Verdict(False, "FailedDiscoveryCheck", why)


def problem(named: ServiceReference, service: Service | None, slices: Sequence[EndpointSlice]) -> Verdict | None:
    """Why the server cannot be asked; None if it can."""
    place = f'service/{named.name} in "{named.namespace}"'
    if service is None:
        return Verdict(False, "ServiceNotFound", f"{place} is not present")
    if service.spec.type != "ClusterIP":
        return None
    name = next((port.name or "" for port in service.spec.ports if port.port == named.port), None)
    if name is None:
        return Verdict(False, "ServicePortError", f"{place} is not listening on port {named.port}")
    if not slices:
        return Verdict(False, "EndpointsNotFound", f"cannot find endpointslices for {place}")
    if not any(_has_endpoint(each, name) for each in slices):
        return Verdict(
            False, "MissingEndpoints", f'endpointslices for {place} have no addresses with port name "{name}"'
        )
    return None


def _has_endpoint(listed: EndpointSlice, port: str) -> bool:
    ready = any(endpoint.conditions.ready is not False for endpoint in listed.endpoints or ())
    return ready and any((each.name or "") == port and each.port for each in listed.ports or ())
