"""What a changed Service keeps of the old one, and what it loses (pkg/registry/core/service: storage, strategy).

A client that sends a Service back without what it was given does not mean to lose it, and one that changes the type
does not mean to keep what only the old type could have. What the client itself set or changed is never taken away:
if the new type cannot have it, validation refuses it.

Works on the Service's JSON, defaults filled in.
"""

from __future__ import annotations

from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.service_types import has_health_check, has_node_ports, is_reached_from_outside
from netlab.api.server.registry.allocators import Allocations


def succeed(service: JSONObject, old: JSONObject, allocations: Allocations) -> None:
    """Carry what was allocated over from the old Service, and drop what the new type has no use for."""
    owner = f"{old['metadata']['namespace']}/{old['metadata']['name']}"
    spec, old_spec = service["spec"], old["spec"]
    _keep_addresses(spec, old_spec)
    _keep_node_ports(spec, old_spec, allocations, owner)
    if has_health_check(spec) and has_health_check(old_spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old_spec["healthCheckNodePort"]
    _drop(spec, old_spec)
    if spec["type"] != "LoadBalancer" and "loadBalancer" in service.get("status", {}):
        service["status"] = service["status"] | {"loadBalancer": {}}


def _has_addresses(spec: JSONObject) -> bool:
    kind: str = spec["type"]
    return kind != "ExternalName"


def _keep_addresses(spec: JSONObject, old: JSONObject) -> None:
    """patchAllocatedValues and normalizeClusterIPs."""
    if _has_addresses(spec) and _has_addresses(old):
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and name in old:
                spec[name] = old[name]
    elif not spec.get("clusterIPs") and spec.get("clusterIP") and spec["clusterIP"] == old.get("clusterIP"):
        spec["clusterIPs"] = old["clusterIPs"]
    if spec.get("clusterIP") != old.get("clusterIP") and spec.get("clusterIPs", []) == old.get("clusterIPs", []):
        # An old client knows of the one address only, and changes it.
        spec.pop("clusterIPs", None)
        if spec.get("clusterIP"):
            spec["clusterIPs"] = [spec["clusterIP"]]


def _keep_node_ports(spec: JSONObject, old: JSONObject, allocations: Allocations, owner: str) -> None:
    """A port is known by its name, which may be empty; all else of it may change."""
    if not (has_node_ports(spec) and has_node_ports(old)):
        return
    given = {port.get("nodePort") for port in spec.get("ports", ())}
    had = {port.get("name", ""): port.get("nodePort") for port in old.get("ports", ())}
    for port in spec.get("ports", ()):
        kept = had.get(port.get("name", ""))
        # Of another protocol the number may be another Service's.
        if kept and not port.get("nodePort") and kept not in given and not _is_taken(port, kept, allocations, owner):
            port["nodePort"] = kept


def _is_taken(port: JSONObject, number: int, allocations: Allocations, owner: str) -> bool:
    # A protocol that does not exist is refused later.
    return port["protocol"] in allocations.pools and allocations.taken((port["protocol"], number), owner)


def _drop(spec: JSONObject, old: JSONObject) -> None:
    """dropTypeDependentFields: each only if it is what it was."""
    unused: set[str] = set()
    if _has_addresses(old) and not _has_addresses(spec):
        unused |= {"ipFamilies", "ipFamilyPolicy"}
        if all(spec.get(name) == old.get(name) for name in ("clusterIP", "clusterIPs")):
            unused |= {"clusterIP", "clusterIPs"}
    if has_health_check(old) and not has_health_check(spec):
        unused.add("healthCheckNodePort")
    if old["type"] == "LoadBalancer" and spec["type"] != "LoadBalancer":
        unused |= {"allocateLoadBalancerNodePorts", "loadBalancerClass"}
    if is_reached_from_outside(old) and not is_reached_from_outside(spec):
        unused.add("externalTrafficPolicy")
    for name in unused:
        if spec.get(name) == old.get(name):
            spec.pop(name, None)
    if spec["type"] not in ("NodePort", "LoadBalancer"):
        given_back = {port.get("nodePort", 0) for port in old.get("ports", ())}
        if all(port.get("nodePort", 0) in given_back | {0} for port in spec.get("ports", ())):
            for port in spec.get("ports", ()):
                port.pop("nodePort", None)
