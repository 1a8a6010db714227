"""What makes an object valid beyond the types of its fields: Kubernetes' rules for what netlab acts upon.

Each kind has `KIND(new, problems)`, and where changes are restricted `KIND_update(new, old, problems)`. The sources are
pkg/apis/{core,apps,discovery}/validation/validation.go of Kubernetes 1.31.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import msgspec

from netlab.api import selectors
from netlab.api.apps_types import Deployment, PodTemplateSpec, ReplicaSet
from netlab.api.core_types import (
    Container,
    ContainerPort,
    Event,
    LifecycleHandler,
    Namespace,
    Node,
    Pod,
    PodSpec,
    Probe,
    Service,
    ServicePort,
    ServiceSpec,
)
from netlab.api.discovery_types import EndpointSlice
from netlab.api.meta_types import IntOrString, LabelSelector, Object, ObjectMeta
from netlab.api.server.problems import Problems
from netlab.api.server.service_addresses import HEADLESS
from netlab.errors import UsageError

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PERCENT = re.compile(r"[0-9]+%")

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_FAMILIES = ("IPv4", "IPv6")

MAX_ENDPOINTS = 1000
MAX_SLICE_PORTS = 100


# --- names and labels ----------------------------------------------------------------------------------------------


def _matches(pattern: re.Pattern[str], longest: int, value: str) -> bool:
    return len(value) <= longest and pattern.fullmatch(value) is not None


def _dns_label(path: str, value: str, problems: Problems) -> None:
    if not _matches(_DNS_LABEL, 63, value):
        detail = "a lowercase RFC 1123 label must consist of at most 63 lower case alphanumeric characters or '-', "
        problems.invalid(path, value, detail + "and must start and end with an alphanumeric character")


def _dns_subdomain(path: str, value: str, problems: Problems) -> None:
    if not _matches(_DNS_SUBDOMAIN, 253, value):
        detail = (
            "a lowercase RFC 1123 subdomain must consist of at most 253 lower case alphanumeric characters, '-' or "
        )
        problems.invalid(path, value, detail + "'.', and must start and end with an alphanumeric character")


def _dns_1035(path: str, value: str, problems: Problems) -> None:
    if not _matches(_DNS_1035, 63, value):
        detail = "a DNS-1035 label must consist of at most 63 lower case alphanumeric characters or '-', start with an "
        problems.invalid(path, value, detail + "alphabetic character, and end with an alphanumeric character")


def _service_name(path: str, value: str, problems: Problems) -> None:
    """IANA_SVC_NAME (RFC 6335): at most 15 characters with at least one letter."""
    valid = _matches(_DNS_LABEL, 15, value) and "--" not in value and any(letter.isalpha() for letter in value)
    if not valid:
        detail = "must be at most 15 lower case alphanumeric characters or '-' with at least one letter, and no '--'"
        problems.invalid(path, value, detail)


def metadata(meta: ObjectMeta, kind: str, problems: Problems) -> None:
    """The name that the kind allows, labels, and annotations."""
    if meta.name:
        check = {"Namespace": _dns_label, "Service": _dns_1035}.get(kind, _dns_subdomain)
        check("metadata.name", meta.name, problems)
    else:
        problems.required("metadata.name", "name or generateName is required")
    _labels("metadata.labels", meta.labels, problems)
    for key in meta.annotations:
        if not selectors.is_label_key(key.lower()):
            problems.invalid("metadata.annotations", key, "an annotation's key is a qualified name, as a label's is")
    for index, owner in enumerate(meta.ownerReferences):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not getattr(owner, field):
                problems.required(f"metadata.ownerReferences[{index}].{field}")
    for index, finalizer in enumerate(meta.finalizers):
        if not selectors.is_label_key(finalizer):
            problems.invalid(f"metadata.finalizers[{index}]", finalizer, "name part must be a qualified name")


def metadata_update(new: ObjectMeta, old: ObjectMeta, problems: Problems) -> None:
    """What an object is called and when it was made never changes; a dying object gets no new finalizers."""
    problems.unchanged("metadata.name", new.name, old.name)
    problems.unchanged("metadata.namespace", new.namespace, old.namespace)
    if old.deletionTimestamp is not None and (added := set(new.finalizers) - set(old.finalizers)):
        detail = f"no new finalizers can be added if the object is being deleted, found {sorted(added)}"
        problems.forbidden("metadata.finalizers", detail)


def _labels(path: str, labels: dict[str, str], problems: Problems) -> None:
    for key, value in labels.items():
        if not selectors.is_label_key(key):
            detail = "a label's key is an optional DNS prefix and '/', and at most 63 alphanumeric, '-', '_' or '.'"
            problems.invalid(path, key, detail)
        if not selectors.is_label_value(value):
            detail = "a valid label must be empty or at most 63 alphanumeric characters, '-', '_' or '.', "
            problems.invalid(path, value, detail + "and must start and end with an alphanumeric character")


def _label_selector(path: str, selector: LabelSelector, problems: Problems) -> None:
    try:
        selectors.from_label_selector(selector)
    except UsageError as error:
        problems.invalid(path, selector, str(error))


# --- values --------------------------------------------------------------------------------------------------------


def _ip(path: str, value: str, problems: Problems) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        address = None
    if address is None or "%" in value:
        problems.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return None
    return address


def _cidr(path: str, value: str, problems: Problems) -> int | None:
    """The family's number, if it is a network."""
    try:
        network = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        network = None
    if network is None or "/" not in value:
        problems.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        return None
    return network.version


def _port(path: str, value: int, problems: Problems) -> None:
    problems.in_range(path, value, 1, 65535)


def _port_or_name(path: str, value: IntOrString, problems: Problems) -> None:
    if isinstance(value, int):
        _port(path, value, problems)
    else:
        _service_name(path, value, problems)


def _taint(path: str, key: str, value: str, problems: Problems) -> None:
    if key and not selectors.is_label_key(key):
        problems.invalid(f"{path}.key", key, "must be a qualified name, as a label's key is")
    if not selectors.is_label_value(value):
        problems.invalid(f"{path}.value", value, "must be a valid label value")


# --- Namespace and Node --------------------------------------------------------------------------------------------


def namespace(new: Namespace, problems: Problems) -> None:
    """v1.Namespace has nothing beyond its name."""


def node(new: Node, problems: Problems) -> None:
    """v1.Node."""
    spec = new.spec
    versions = [_cidr(f"spec.podCIDRs[{index}]", cidr, problems) for index, cidr in enumerate(spec.podCIDRs)]
    if len(versions) > 2 or (len(versions) == 2 and versions[0] == versions[1]):
        problems.invalid("spec.podCIDRs", spec.podCIDRs, "may hold no more than one CIDR for each IP family")
    if spec.podCIDRs and spec.podCIDR != spec.podCIDRs[0]:
        problems.invalid("spec.podCIDR", spec.podCIDR, "must be the first of podCIDRs")
    seen = set()
    for index, taint in enumerate(spec.taints):
        path = f"spec.taints[{index}]"
        if not taint.key:
            problems.required(f"{path}.key")
        _taint(path, taint.key, taint.value, problems)
        problems.one_of(f"{path}.effect", taint.effect, _EFFECTS)
        if (taint.key, taint.effect) in seen:
            problems.duplicate(path, taint)
        seen.add((taint.key, taint.effect))


def node_update(new: Node, old: Node, problems: Problems) -> None:
    """A node's pod subnets stay once they are given: pods have addresses of them."""
    if old.spec.podCIDRs and new.spec.podCIDRs != old.spec.podCIDRs:
        problems.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')


# --- Pod -----------------------------------------------------------------------------------------------------------


def pod(new: Pod, problems: Problems) -> None:
    """v1.Pod."""
    pod_spec(new.spec, "spec", problems)


def pod_update(new: Pod, old: Pod, problems: Problems) -> None:
    """Of a pod's spec little can change: images, a deadline, more tolerations."""
    frozen_new, frozen_old = (_without_what_may_change(spec) for spec in (new.spec, old.spec))
    if frozen_new != frozen_old or old.spec.tolerations != new.spec.tolerations[: len(old.spec.tolerations)]:
        detail = (
            "pod updates may not change fields other than `spec.containers[*].image`, "
            "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to "
            "existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)"
        )
        problems.forbidden("spec", detail)


def _without_what_may_change(spec: PodSpec) -> PodSpec:
    return msgspec.structs.replace(
        spec,
        containers=[msgspec.structs.replace(container, image="") for container in spec.containers],
        initContainers=[msgspec.structs.replace(container, image="") for container in spec.initContainers],
        activeDeadlineSeconds=None,
        tolerations=[],
    )


def pod_spec(
    spec: PodSpec, path: str, problems: Problems, policies: Sequence[str] = ("Always", "OnFailure", "Never")
) -> None:
    """v1.PodSpec, of a pod or, under its path, of a template."""
    if not spec.containers:
        problems.required(f"{path}.containers")
    names: set[str] = set()
    for field, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            _container(container, f"{path}.{field}[{index}]", names, problems)
    _host_ports(spec, path, problems)
    problems.one_of(f"{path}.restartPolicy", spec.restartPolicy, policies)
    problems.one_of(f"{path}.dnsPolicy", spec.dnsPolicy, ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"))
    if spec.dnsPolicy == "None" and not (spec.dnsConfig and spec.dnsConfig.nameservers):
        problems.required(
            f"{path}.dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None"
        )
    if spec.dnsConfig is not None:
        for index, server in enumerate(spec.dnsConfig.nameservers):
            _ip(f"{path}.dnsConfig.nameservers[{index}]", server, problems)
    for field in ("hostname", "subdomain"):
        if value := getattr(spec, field):
            _dns_label(f"{path}.{field}", value, problems)
    if spec.nodeName:
        _dns_subdomain(f"{path}.nodeName", spec.nodeName, problems)
    _labels(f"{path}.nodeSelector", spec.nodeSelector, problems)
    problems.not_negative(f"{path}.terminationGracePeriodSeconds", spec.terminationGracePeriodSeconds)
    if spec.activeDeadlineSeconds is not None and spec.activeDeadlineSeconds < 1:
        problems.invalid(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, "must be greater than 0")
    for index, alias in enumerate(spec.hostAliases):
        _ip(f"{path}.hostAliases[{index}].ip", alias.ip, problems)
        for number, hostname in enumerate(alias.hostnames):
            _dns_subdomain(f"{path}.hostAliases[{index}].hostnames[{number}]", hostname, problems)
    for index, toleration in enumerate(spec.tolerations):
        place = f"{path}.tolerations[{index}]"
        _taint(place, toleration.key, toleration.value, problems)
        problems.one_of(f"{place}.operator", toleration.operator or "Equal", ("Equal", "Exists"))
        if toleration.effect:
            problems.one_of(f"{place}.effect", toleration.effect, _EFFECTS)
        if not toleration.key and toleration.operator != "Exists":
            problems.invalid(f"{place}.operator", toleration.operator, "operator must be Exists when `key` is empty")


def _container(container: Container, path: str, names: set[str], problems: Problems) -> None:
    if container.name in names:
        problems.duplicate(f"{path}.name", container.name)
    names.add(container.name)
    if not container.name:
        problems.required(f"{path}.name")
    else:
        _dns_label(f"{path}.name", container.name, problems)
    if not container.image:
        problems.required(f"{path}.image")
    elif container.image != container.image.strip():
        problems.invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")
    problems.one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, ("Always", "IfNotPresent", "Never"))
    port_names: set[str] = set()
    for index, port in enumerate(container.ports):
        _container_port(port, f"{path}.ports[{index}]", port_names, problems)
    for index, variable in enumerate(container.env):
        place = f"{path}.env[{index}]"
        if not _ENV_NAME.fullmatch(variable.name):
            problems.invalid(f"{place}.name", variable.name, "must be letters, digits, '_', '-' or '.', no digit first")
        if variable.value and variable.valueFrom is not None:
            problems.invalid(f"{place}.valueFrom", "", "may not be specified when `value` is not empty")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe: Probe | None = getattr(container, field)
        if probe is not None:
            _probe(probe, f"{path}.{field}", problems, only_once=field != "readinessProbe")
    if container.lifecycle is not None:
        for field in ("postStart", "preStop"):
            handler: LifecycleHandler | None = getattr(container.lifecycle, field)
            if handler is not None:
                _handler(handler, f"{path}.lifecycle.{field}", problems, others=handler.sleep is not None)


def _container_port(port: ContainerPort, path: str, names: set[str], problems: Problems) -> None:
    _port(f"{path}.containerPort", port.containerPort, problems)
    problems.one_of(f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.name:
        _service_name(f"{path}.name", port.name, problems)
        if port.name in names:
            problems.duplicate(f"{path}.name", port.name)
        names.add(port.name)
    if port.hostPort:
        _port(f"{path}.hostPort", port.hostPort, problems)
    if port.hostIP:
        _ip(f"{path}.hostIP", port.hostIP, problems)


def _host_ports(spec: PodSpec, path: str, problems: Problems) -> None:
    seen = set()
    for index, container in enumerate(spec.containers):
        for number, port in enumerate(container.ports):
            place = f"{path}.containers[{index}].ports[{number}].hostPort"
            if spec.hostNetwork and port.hostPort != port.containerPort:
                problems.invalid(place, port.hostPort, "must match `containerPort` when `hostNetwork` is true")
            claim = (port.hostPort, port.protocol, port.hostIP)
            if port.hostPort and claim in seen:
                problems.duplicate(place, port.hostPort)
            seen.add(claim)


def _probe(probe: Probe, path: str, problems: Problems, *, only_once: bool) -> None:
    _handler(probe, path, problems, others=probe.grpc is not None)
    problems.not_negative(f"{path}.initialDelaySeconds", probe.initialDelaySeconds)
    for field in ("timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        problems.not_negative(f"{path}.{field}", getattr(probe, field))
    if only_once and probe.successThreshold != 1:
        problems.invalid(f"{path}.successThreshold", probe.successThreshold, "must be 1")


def _handler(handler: Probe | LifecycleHandler, path: str, problems: Problems, *, others: bool) -> None:
    """Exactly one way; `others` tells whether one is set that netlab does not act upon."""
    ways = sum(way is not None for way in (handler.httpGet, handler.tcpSocket, handler.exec)) + others
    if ways == 0:
        problems.required(path, "must specify a handler type")
    elif ways > 1:
        problems.forbidden(path, "may not specify more than 1 handler type")
    if handler.httpGet is not None:
        _port_or_name(f"{path}.httpGet.port", handler.httpGet.port, problems)
        problems.one_of(f"{path}.httpGet.scheme", handler.httpGet.scheme, ("HTTP", "HTTPS"))
    if handler.tcpSocket is not None:
        _port_or_name(f"{path}.tcpSocket.port", handler.tcpSocket.port, problems)
    if handler.exec is not None and not handler.exec.command:
        problems.required(f"{path}.exec.command")


# --- Deployment and ReplicaSet -------------------------------------------------------------------------------------


def _workload(selector: LabelSelector, template: PodTemplateSpec, replicas: int | None, problems: Problems) -> None:
    problems.not_negative("spec.replicas", replicas)
    if not selector.matchLabels and not selector.matchExpressions:
        problems.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    _label_selector("spec.selector", selector, problems)
    labels = template.metadata.labels
    _labels("spec.template.metadata.labels", labels, problems)
    if not problems and not selectors.from_label_selector(selector).matches(labels):
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    pod_spec(template.spec, "spec.template.spec", problems, policies=("Always",))


def deployment(new: Deployment, problems: Problems) -> None:
    """apps/v1.Deployment."""
    spec = new.spec
    _workload(spec.selector, spec.template, spec.replicas, problems)
    problems.not_negative("spec.minReadySeconds", spec.minReadySeconds)
    problems.not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    if spec.progressDeadlineSeconds is not None and spec.progressDeadlineSeconds <= spec.minReadySeconds:
        detail = "must be greater than minReadySeconds"
        problems.invalid("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds, detail)
    strategy = spec.strategy
    problems.one_of("spec.strategy.type", strategy.type, ("Recreate", "RollingUpdate"))
    if strategy.rollingUpdate is None:
        return
    path = "spec.strategy.rollingUpdate"
    if strategy.type == "Recreate":
        problems.forbidden(path, "may not be specified when strategy `type` is 'Recreate'")
    unavailable, surge = strategy.rollingUpdate.maxUnavailable, strategy.rollingUpdate.maxSurge
    _count_or_percent(f"{path}.maxUnavailable", unavailable, problems)
    _count_or_percent(f"{path}.maxSurge", surge, problems)
    if unavailable in (0, "0%") and surge in (0, "0%"):
        problems.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")


def _count_or_percent(path: str, value: IntOrString | None, problems: Problems) -> None:
    if isinstance(value, int):
        problems.not_negative(path, value)
    elif value is not None and not _PERCENT.fullmatch(value):
        problems.invalid(path, value, "must be an integer or percentage (e.g '5%')")


def replica_set(new: ReplicaSet, problems: Problems) -> None:
    """apps/v1.ReplicaSet."""
    _workload(new.spec.selector, new.spec.template, new.spec.replicas, problems)
    problems.not_negative("spec.minReadySeconds", new.spec.minReadySeconds)


def workload_update(new: Deployment | ReplicaSet, old: Deployment | ReplicaSet, problems: Problems) -> None:
    """Which pods are its own never changes."""
    problems.unchanged("spec.selector", new.spec.selector, old.spec.selector)


# --- Service -------------------------------------------------------------------------------------------------------


def service(new: Service, problems: Problems) -> None:
    """v1.Service; whether its addresses and ports are free is for service_addresses to say."""
    spec = new.spec
    problems.one_of("spec.type", spec.type, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    problems.one_of("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None"))
    if spec.sessionAffinityConfig is not None and spec.sessionAffinityConfig.clientIP is not None:
        timeout = spec.sessionAffinityConfig.clientIP.timeoutSeconds
        problems.in_range("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout or 0, 1, 86400)
    _labels("spec.selector", spec.selector, problems)
    headless = HEADLESS in (spec.clusterIP, *spec.clusterIPs)
    if not spec.ports and not headless and spec.type != "ExternalName":
        problems.required("spec.ports")
    _service_ports(spec, problems)
    _service_addresses(spec, problems, headless=headless)
    _traffic_policies(spec, problems)


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
    _port(f"{path}.port", port.port, problems)
    problems.one_of(f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.targetPort is not None:
        _port_or_name(f"{path}.targetPort", port.targetPort, problems)
    if port.name:
        _dns_label(f"{path}.name", port.name, problems)
    if port.nodePort:
        _port(f"{path}.nodePort", port.nodePort, problems)


def _service_addresses(spec: ServiceSpec, problems: Problems, *, headless: bool) -> None:
    if headless and spec.type in ("NodePort", "LoadBalancer"):
        problems.invalid("spec.clusterIP", HEADLESS, f"may not be set to 'None' for {spec.type} services")
    if spec.type == "ExternalName":
        _dns_subdomain("spec.externalName", spec.externalName.rstrip("."), problems)
        if spec.clusterIP:
            problems.forbidden("spec.clusterIP", "may not be set when `type` is 'ExternalName'")
    if spec.clusterIP and spec.clusterIPs and spec.clusterIP != spec.clusterIPs[0]:
        problems.invalid("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`")
    addresses = spec.clusterIPs or ([spec.clusterIP] if spec.clusterIP else [])
    if len(addresses) > 2 or (headless and len(addresses) > 1):
        problems.invalid(
            "spec.clusterIPs", addresses, "may only hold up to 2 values, one of each family, or 'None' alone"
        )
    elif not headless:
        path = "spec.clusterIPs" if spec.clusterIPs else "spec.clusterIP"
        found = [_ip(f"{path}[{i}]" if spec.clusterIPs else path, ip, problems) for i, ip in enumerate(addresses)]
        if len({ip.version for ip in found if ip is not None}) < len([ip for ip in found if ip is not None]):
            problems.invalid(path, addresses, "may specify no more than one IP for each IP family")
    for index, family in enumerate(spec.ipFamilies):
        problems.one_of(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        if family in spec.ipFamilies[:index]:
            problems.duplicate(f"spec.ipFamilies[{index}]", family)
    if spec.ipFamilyPolicy is not None:
        problems.one_of(
            "spec.ipFamilyPolicy", spec.ipFamilyPolicy, ("SingleStack", "PreferDualStack", "RequireDualStack")
        )
    for index, text in enumerate(spec.externalIPs):
        path = f"spec.externalIPs[{index}]"
        address = _ip(path, text, problems)
        if address is not None and (
            address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast
        ):
            problems.invalid(path, text, "may not be unspecified, loopback, link-local or multicast")
    for index, cidr in enumerate(spec.loadBalancerSourceRanges):
        _cidr(f"spec.loadBalancerSourceRanges[{index}]", cidr, problems)


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
    if "ExternalName" in (new.spec.type, old.spec.type):
        return
    if old.spec.clusterIPs and new.spec.clusterIPs[:1] != old.spec.clusterIPs[:1]:
        problems.invalid("spec.clusterIPs[0]", new.spec.clusterIPs[:1], "may not change once set")
    elif len(new.spec.clusterIPs) == len(old.spec.clusterIPs) == 2 and new.spec.clusterIPs != old.spec.clusterIPs:
        problems.invalid("spec.clusterIPs[1]", new.spec.clusterIPs[1], "may not change once set")
    if old.spec.ipFamilies and new.spec.ipFamilies[:1] != old.spec.ipFamilies[:1]:
        problems.invalid("spec.ipFamilies[0]", new.spec.ipFamilies[:1], "may not change once set")


# --- EndpointSlice and Event ---------------------------------------------------------------------------------------


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
            _dns_subdomain(f"endpoints[{index}].nodeName", endpoint.nodeName, problems)
    if len(new.ports) > MAX_SLICE_PORTS:
        problems.invalid("ports", len(new.ports), f"must have at most {MAX_SLICE_PORTS} items")
    names: set[str] = set()
    for index, port in enumerate(new.ports):
        path = f"ports[{index}]"
        if (name := port.name or "") in names:
            problems.duplicate(f"{path}.name", name)
        elif name:
            _dns_label(f"{path}.name", name, problems)
        names.add(name)
        problems.one_of(f"{path}.protocol", port.protocol, _PROTOCOLS)
        if port.port is not None:
            _port(f"{path}.port", port.port, problems)


def _endpoint_address(path: str, text: str, kind: str, problems: Problems) -> None:
    if kind == "FQDN":
        _dns_subdomain(path, text, problems)
        return
    address = _ip(path, text, problems)
    if address is None:
        return
    if f"IPv{address.version}" != kind:
        problems.invalid(path, text, f"must be an {kind} address")
    elif address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast:
        problems.invalid(path, text, "may not be unspecified, loopback, link-local or multicast")


def endpoint_slice_update(new: EndpointSlice, old: EndpointSlice, problems: Problems) -> None:
    """A slice stays of one family."""
    problems.unchanged("addressType", new.addressType, old.addressType)


def event(new: Event, problems: Problems) -> None:
    """v1.Event is about something in its own namespace."""
    expected = new.involvedObject.namespace or "default"
    if new.metadata.namespace != expected:
        problems.invalid("involvedObject.namespace", new.involvedObject.namespace, "does not match event.namespace")


def any_update(new: Object, old: Object, problems: Problems) -> None:
    """A kind whose fields may all change."""
