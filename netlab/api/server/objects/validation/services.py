"""Services and EndpointSlices."""

from __future__ import annotations

import ipaddress

from netlab.api.core_types import Service, ServicePort, ServiceSpec
from netlab.api.discovery_types import EndpointSlice
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.service_types import HEADLESS
from netlab.api.server.objects.validation import rules

MAX_ENDPOINTS = 1000
MAX_SLICE_PORTS = 100

_FAMILIES = ("IPv4", "IPv6")


def service(new: Service, problems: Problems) -> None:
    """v1.Service; whether its addresses and ports are free is for service_addresses to say."""
    spec = new.spec
    problems.one_of("spec.type", spec.type, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    problems.one_of("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None"))
    if spec.sessionAffinityConfig is not None and spec.sessionAffinityConfig.clientIP is not None:
        timeout = spec.sessionAffinityConfig.clientIP.timeoutSeconds
        problems.in_range("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout or 0, 1, 86400)
    rules.labels("spec.selector", spec.selector, problems)
    headless = HEADLESS in (spec.clusterIP, *spec.clusterIPs)
    if not spec.ports and not headless and spec.type != "ExternalName":
        problems.required("spec.ports")
    _service_ports(spec, problems)
    _service_addresses(spec, problems, headless=headless)
    _external_addresses(spec, problems)
    _traffic_policies(spec, problems)
    if spec.type != "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass", "loadBalancerSourceRanges"):
            if getattr(spec, name) not in (None, []):
                problems.forbidden(f"spec.{name}", "may only be used when `type` is 'LoadBalancer'")


def _service_ports(spec: ServiceSpec, problems: Problems) -> None:
    names: set[str] = set()
    frontends: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        _service_port(port, path, problems)
        if len(spec.ports) > 1 and not port.name:
            problems.required(f"{path}.name")
        elif port.name and port.name in names:
            problems.duplicate(f"{path}.name", port.name)
        names.add(port.name)
        if (port.protocol, port.port) in frontends:
            problems.duplicate(path, port)
        frontends.add((port.protocol, port.port))
        if port.nodePort and spec.type in ("ClusterIP", "ExternalName"):
            problems.forbidden(f"{path}.nodePort", f"may not be used when `type` is '{spec.type}'")
        elif port.nodePort and (port.protocol, port.nodePort) in node_ports:
            problems.duplicate(f"{path}.nodePort", port.nodePort)
        node_ports.add((port.protocol, port.nodePort))


def _service_port(port: ServicePort, path: str, problems: Problems) -> None:
    rules.port(f"{path}.port", port.port, problems)
    problems.one_of(f"{path}.protocol", port.protocol, rules.PROTOCOLS)
    if port.targetPort is not None:
        rules.port_or_name(f"{path}.targetPort", port.targetPort, problems)
    if port.name:
        rules.dns_label(f"{path}.name", port.name, problems)
    if port.nodePort:
        rules.port(f"{path}.nodePort", port.nodePort, problems)


def _service_addresses(spec: ServiceSpec, problems: Problems, *, headless: bool) -> None:
    if headless and spec.type in ("NodePort", "LoadBalancer"):
        problems.invalid("spec.clusterIP", HEADLESS, f"may not be set to 'None' for {spec.type} services")
    if spec.type == "ExternalName":
        rules.dns_subdomain("spec.externalName", spec.externalName.rstrip("."), problems)
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if getattr(spec, name):
                problems.forbidden(f"spec.{name}", "may not be set when `type` is 'ExternalName'")
    if spec.clusterIP and spec.clusterIPs and spec.clusterIP != spec.clusterIPs[0]:
        problems.invalid("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`")
    addresses = spec.clusterIPs or ([spec.clusterIP] if spec.clusterIP else [])
    if len(addresses) > 2 or (headless and len(addresses) > 1):
        problems.invalid(
            "spec.clusterIPs", addresses, "may only hold up to 2 values, one of each family, or 'None' alone"
        )
    elif not headless:
        path = "spec.clusterIPs" if spec.clusterIPs else "spec.clusterIP"
        found = [rules.ip(f"{path}[{i}]" if spec.clusterIPs else path, ip, problems) for i, ip in enumerate(addresses)]
        if len({ip.version for ip in found if ip is not None}) < len([ip for ip in found if ip is not None]):
            problems.invalid(path, addresses, "may specify no more than one IP for each IP family")
    if len(spec.ipFamilies) > len(_FAMILIES):
        problems.invalid("spec.ipFamilies", spec.ipFamilies, "may only hold up to 2 values")
    for index, family in enumerate(spec.ipFamilies[: len(_FAMILIES)]):
        problems.one_of(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        if family in spec.ipFamilies[:index]:
            problems.duplicate(f"spec.ipFamilies[{index}]", family)
    if spec.ipFamilyPolicy is not None:
        problems.one_of(
            "spec.ipFamilyPolicy", spec.ipFamilyPolicy, ("SingleStack", "PreferDualStack", "RequireDualStack")
        )


def _external_addresses(spec: ServiceSpec, problems: Problems) -> None:
    for index, text in enumerate(spec.externalIPs):
        path = f"spec.externalIPs[{index}]"
        address = rules.ip(path, text, problems)
        if address is not None and _is_special(address):
            problems.invalid(path, text, "may not be unspecified, loopback, link-local or multicast")
    for index, cidr in enumerate(spec.loadBalancerSourceRanges):
        rules.cidr(f"spec.loadBalancerSourceRanges[{index}]", cidr, problems)


def _is_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast


def _traffic_policies(spec: ServiceSpec, problems: Problems) -> None:
    reached_from_outside = spec.type in ("NodePort", "LoadBalancer") or (spec.type == "ClusterIP" and spec.externalIPs)
    if spec.externalTrafficPolicy and not reached_from_outside:
        detail = "may only be set for externally-accessible services"
        problems.invalid("spec.externalTrafficPolicy", spec.externalTrafficPolicy, detail)
    elif spec.externalTrafficPolicy:
        problems.one_of("spec.externalTrafficPolicy", spec.externalTrafficPolicy, ("Cluster", "Local"))
    if spec.internalTrafficPolicy is not None:
        problems.one_of("spec.internalTrafficPolicy", spec.internalTrafficPolicy, ("Cluster", "Local"))
    if spec.healthCheckNodePort and not (spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local"):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        problems.invalid("spec.healthCheckNodePort", spec.healthCheckNodePort, detail)
    if spec.trafficDistribution is not None:
        supported = ("PreferClose", "PreferSameZone", "PreferSameNode")
        problems.one_of("spec.trafficDistribution", spec.trafficDistribution, supported)


def service_update(new: Service, old: Service, problems: Problems) -> None:
    """The primary address and family stay as long as there is one; the secondary may come and go."""
    if new.spec.type == old.spec.type == "LoadBalancer":
        if new.spec.loadBalancerClass != old.spec.loadBalancerClass:
            problems.invalid("spec.loadBalancerClass", new.spec.loadBalancerClass, "may not change once set")
        local = new.spec.externalTrafficPolicy == old.spec.externalTrafficPolicy == "Local"
        if local and new.spec.healthCheckNodePort != old.spec.healthCheckNodePort:
            problems.forbidden("spec.healthCheckNodePort", "field is immutable")
    if "ExternalName" in (new.spec.type, old.spec.type):
        return
    if old.spec.clusterIPs and new.spec.clusterIPs[:1] != old.spec.clusterIPs[:1]:
        problems.invalid("spec.clusterIPs[0]", new.spec.clusterIPs[:1], "may not change once set")
    elif len(new.spec.clusterIPs) == len(old.spec.clusterIPs) == 2 and new.spec.clusterIPs != old.spec.clusterIPs:
        problems.invalid("spec.clusterIPs[1]", new.spec.clusterIPs[1], "may not change once set")
    if old.spec.ipFamilies and new.spec.ipFamilies[:1] != old.spec.ipFamilies[:1]:
        problems.invalid("spec.ipFamilies[0]", new.spec.ipFamilies[:1], "may not change once set")


def endpoint_slice(new: EndpointSlice, problems: Problems) -> None:
    """discovery.k8s.io/v1.EndpointSlice."""
    problems.one_of("addressType", new.addressType, ("IPv4", "IPv6", "FQDN"))
    if len(new.endpoints) > MAX_ENDPOINTS:
        problems.invalid("endpoints", len(new.endpoints), f"must have at most {MAX_ENDPOINTS} items")
    for index, endpoint in enumerate(new.endpoints):
        path = f"endpoints[{index}].addresses"
        if not endpoint.addresses:
            problems.required(path, "must contain at least 1 address")
        for number, text in enumerate(endpoint.addresses):
            _endpoint_address(f"{path}[{number}]", text, new.addressType, problems)
        if endpoint.nodeName is not None:
            rules.dns_subdomain(f"endpoints[{index}].nodeName", endpoint.nodeName, problems)
    if len(new.ports) > MAX_SLICE_PORTS:
        problems.invalid("ports", len(new.ports), f"must have at most {MAX_SLICE_PORTS} items")
    names: set[str] = set()
    for index, port in enumerate(new.ports):
        path = f"ports[{index}]"
        if (name := port.name or "") in names:
            problems.duplicate(f"{path}.name", name)
        elif name:
            rules.dns_label(f"{path}.name", name, problems)
        names.add(name)
        problems.one_of(f"{path}.protocol", port.protocol, rules.PROTOCOLS)
        if port.port is not None:
            rules.port(f"{path}.port", port.port, problems)


def _endpoint_address(path: str, text: str, kind: str, problems: Problems) -> None:
    if kind == "FQDN":
        rules.dns_subdomain(path, text, problems)
        return
    address = rules.ip(path, text, problems)
    if address is None:
        return
    if f"IPv{address.version}" != kind:
        problems.invalid(path, text, f"must be an {kind} address")
    elif _is_special(address):
        problems.invalid(path, text, "may not be unspecified, loopback, link-local or multicast")


def endpoint_slice_update(new: EndpointSlice, old: EndpointSlice, problems: Problems) -> None:
    """A slice stays of one family."""
    problems.unchanged("addressType", new.addressType, old.addressType)
