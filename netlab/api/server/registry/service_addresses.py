"""What a Service is given: families, virtual addresses, node ports (pkg/registry/core/service/storage/alloc.go).

Works on the Service's JSON. `complete` fills in what is free without claiming it: the claim is recorded when the
Service has been stored (`Allocations.record` of `claims`).
"""

from __future__ import annotations

import dataclasses
import ipaddress

from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.service_types import HEADLESS, has_health_check, has_node_ports
from netlab.api.server.registry.allocators import Allocations, Claim


def claims(service: JSONObject, allocations: Allocations) -> frozenset[Claim]:
    """All that a stored Service holds; addresses outside of the current ranges have no owner."""
    spec = service.get("spec", {})
    held = set()
    for address in _addresses(spec):
        claim = _address_claim(address, allocations)
        if claim is not None:
            held.add(claim)
    for port in spec.get("ports", ()):
        if port.get("nodePort"):
            held.add((port.get("protocol", "TCP"), port["nodePort"]))
    if spec.get("healthCheckNodePort"):
        held.add(("TCP", spec["healthCheckNodePort"]))
    return frozenset(claim for claim in held if claim[1] in allocations.pools[claim[0]])


def complete(service: JSONObject, *, created: bool, allocations: Allocations, problems: Problems) -> None:
    """Give a valid Service what it lacks, and refuse what it asks for and cannot have. Raises `ExhaustedError`."""
    meta = service["metadata"]
    owner = f"{meta['namespace']}/{meta['name']}"
    _Completion(service["spec"], created, owner, allocations, problems).run()


def _addresses(spec: JSONObject) -> list[str]:
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    return [address for address in addresses if address not in ("", HEADLESS)]


def _address_claim(address: str, allocations: Allocations) -> Claim | None:
    family, number = _family(address), int(ipaddress.ip_address(address))
    pool = allocations.pools.get(family)
    return (family, number) if pool is not None and number in pool else None


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


@dataclasses.dataclass
class _Completion:
    spec: JSONObject
    created: bool
    owner: str
    allocations: Allocations
    problems: Problems

    def run(self) -> None:
        if self.spec["type"] != "ExternalName":
            self._choose_families()
            if not self.problems:
                self._choose_addresses()
        if not self.problems:
            self._choose_ports()

    def _choose_families(self) -> None:
        spec, problems, available = self.spec, self.problems, self.allocations.ranges.families
        asked = list(spec.get("ipFamilies") or [])
        addresses = _addresses(spec)
        selectorless = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
        if selectorless and not asked and "ipFamilyPolicy" not in spec:
            # Its endpoints are managed elsewhere and may be of either family (alloc.go, initIPFamilyFields).
            spec["ipFamilyPolicy"] = "RequireDualStack"
            spec["ipFamilies"] = [*available, *({"IPv4", "IPv6"} - set(available))]
            return
        families = asked + [_family(address) for address in addresses[len(asked) :]]
        policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if len(families) > 1 else "SingleStack")
        if not selectorless:
            for index, family in enumerate(families):
                if family not in available:
                    problems.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
            if policy == "RequireDualStack" and len(available) < 2:
                problems.invalid(
                    "spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"
                )
        if policy == "SingleStack" and len(families) > 1:
            if self.created:
                detail = 'must be "RequireDualStack" or "PreferDualStack" when two families are specified'
                problems.invalid("spec.ipFamilyPolicy", policy, detail)
            # An update to SingleStack gives the second address back.
            families = families[:1]
            spec["clusterIPs"] = (spec.get("clusterIPs") or [])[:1]
        families = families or [available[0]]
        if policy != "SingleStack" and len(families) == 1:
            families += [family for family in available if family not in families]
        spec["ipFamilies"] = families

    def _choose_addresses(self) -> None:
        spec, allocations = self.spec, self.allocations
        if HEADLESS in (spec.get("clusterIP"), *spec.get("clusterIPs", ())):
            spec["clusterIP"], spec["clusterIPs"] = HEADLESS, [HEADLESS]
            return
        addresses = _addresses(spec)
        for index, (address, family) in enumerate(zip(addresses, spec["ipFamilies"], strict=False)):
            self._check_address(f"spec.clusterIPs[{index}]", address, family)
        if not self.problems:
            addresses += [allocations.free_address(family) for family in spec["ipFamilies"][len(addresses) :]]
            spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses

    def _check_address(self, path: str, address: str, family: str) -> None:
        claim = _address_claim(address, self.allocations)
        if _family(address) != family:
            self.problems.invalid(path, address, f"expected an {family} value as indicated by `spec.ipFamilies`")
        elif claim is None:
            network = self.allocations.ranges.network(family)
            detail = f"failed to allocate IP {address}: the provided IP is not in the valid range {network}"
            self.problems.invalid(path, address, detail)
        elif self.allocations.taken(claim, self.owner):
            detail = f"failed to allocate IP {address}: provided IP is already allocated"
            self.problems.invalid(path, address, detail)

    def _choose_ports(self) -> None:
        spec, allocations = self.spec, self.allocations
        ports = spec.get("ports", [])
        for index, port in enumerate(ports):
            self._check_port(f"spec.ports[{index}].nodePort", port["protocol"], port.get("nodePort", 0))
        self._check_port("spec.healthCheckNodePort", "TCP", spec.get("healthCheckNodePort", 0))
        if self.problems:
            return
        used = {port.get("nodePort", 0) for port in ports} | {spec.get("healthCheckNodePort", 0)}
        if has_node_ports(spec):
            for port in ports:
                if not port.get("nodePort"):
                    port["nodePort"] = allocations.free_port(port["protocol"], used)
                    used.add(port["nodePort"])
        if has_health_check(spec) and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = allocations.free_port("TCP", used)

    def _check_port(self, path: str, protocol: str, number: int) -> None:
        first, last = self.allocations.ranges.node_ports
        if number == 0:
            return
        if not first <= number <= last:
            detail = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
            self.problems.invalid(path, number, detail)
        elif self.allocations.taken((protocol, number), self.owner):
            self.problems.invalid(path, number, "provided port is already allocated")
