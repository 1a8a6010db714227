"""What an object uses up of a ResourceQuota, on its JSON: the server charges it, the controller counts it.

The evaluators of upstream (pkg/quota/v1/evaluator).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from netlab.api import pod_resources, selectors
from netlab.api.meta_types import LabelSelector, LabelSelectorRequirement
from netlab.api.pod_resources import LIMITS, REQUESTS, Amounts
from netlab.api.quantities import ZERO, Quantity
from netlab.api.quota_types import ResourceQuotaSpec, ScopedResourceSelectorRequirement
from netlab.api.resources import PODS, Resource
from netlab.errors import UsageError

ONE = Quantity(Fraction(1))

COUNT = "count/"
"""What begins the name of a number of objects of a kind: count/pods, count/deployments.apps."""

CLAIMS = "persistentvolumeclaims"

_OLDER_COUNTS = ("configmaps", "resourcequotas", "replicationcontrollers", "secrets")
"""Kinds whose number has a name from before there was COUNT too."""
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_OF_PODS = frozenset({"pods", *_COMPUTE, *(f"{part}.{name}" for part in (REQUESTS, LIMITS) for name in _COMPUTE)})
_OF_SERVICES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_OF_CLAIMS = (CLAIMS, "requests.storage")
_BY_CLASS = ".storageclass.storage.k8s.io/"
_TO_BE_SAID = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
"""What every container has to say if there is a quota of it."""


def count_name(resource: Resource[Any]) -> str:
    """The name of the number of a kind's objects."""
    return f"{COUNT}{resource.plural}.{resource.group}" if resource.group else f"{COUNT}{resource.plural}"


def counted(resource: Resource[Any], names: Iterable[str]) -> list[str]:
    """Those of a quota's names that objects of a kind use up, in order of the alphabet."""
    return sorted(name for name in names if _is_of(resource, name))


def _is_of(resource: Resource[Any], name: str) -> bool:
    if name == count_name(resource):
        return True
    if resource.group:
        return False
    match resource.plural:
        case "pods":
            return name in _OF_PODS or _is_extended(name)
        case "services":
            return name in _OF_SERVICES
        case "persistentvolumeclaims":
            return name in _OF_CLAIMS or any(name.endswith(f"{_BY_CLASS}{each}") for each in _OF_CLAIMS)
        case plural:
            return plural in _OLDER_COUNTS and name == plural


def _is_extended(name: str) -> bool:
    bare = name.removeprefix("requests.")
    if bare.startswith(pod_resources.HUGE_PAGES):
        return True
    return bare != name and "/" in bare and "kubernetes.io/" not in bare


def of(resource: Resource[Any], obj: Mapping[str, Any], now: datetime.datetime) -> Amounts:
    """All that an object uses up."""
    used = {count_name(resource): ONE}
    if resource.group:
        return used
    match resource.plural:
        case "pods":
            used |= _of_pod(obj, now)
        case "services":
            used |= _of_service(obj["spec"])
        case "persistentvolumeclaims":
            used |= _of_claim(obj)
        case plural if plural in _OLDER_COUNTS:
            used[plural] = ONE
    return used


def _of_pod(pod: Mapping[str, Any], now: datetime.datetime) -> Amounts:
    """Nothing but its number if it has ended, or should have and its node does not say so."""
    meta = pod["metadata"]
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    end, grace = meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds")
    if end and grace is not None and now > datetime.datetime.fromisoformat(end) + datetime.timedelta(seconds=grace):
        return {}
    spec = pod["spec"]
    requests, limits = (pod_resources.of_pod(spec, part) for part in (REQUESTS, LIMITS))
    return {"pods": ONE, **_named(requests, limits)}


def _named(requests: Amounts, limits: Amounts) -> Amounts:
    """Amounts by the names that quotas have for them (podComputeUsageHelper)."""
    used: Amounts = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith(pod_resources.HUGE_PAGES):
            used[name] = amount
        if name in _COMPUTE or _is_extended(f"requests.{name}"):
            used[f"requests.{name}"] = amount
    for name, amount in limits.items():
        if name in _COMPUTE:
            used[f"limits.{name}"] = amount
    return used


def _of_service(spec: Mapping[str, Any]) -> Amounts:
    ports = spec.get("ports") or ()
    kind = spec.get("type", "ClusterIP")
    node_ports = 0
    if kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False):
        node_ports = len(ports)
    elif kind == "LoadBalancer":
        node_ports = sum(bool(port.get("nodePort")) for port in ports)
    return {
        "services": ONE,
        "services.nodeports": Quantity(Fraction(node_ports)),
        "services.loadbalancers": ONE if kind == "LoadBalancer" else ZERO,
    }


def _of_claim(claim: Mapping[str, Any]) -> Amounts:
    spec = claim.get("spec") or {}
    used = {CLAIMS: ONE}
    asked = pod_resources.amounts((spec.get("resources") or {}).get(REQUESTS)).get("storage")
    given = pod_resources.amounts(claim.get("status", {}).get("allocatedResources")).get("storage")
    if asked is not None:
        most = given if given is not None and given.amount > asked.amount else asked
        used["requests.storage"] = Quantity(Fraction(math.ceil(most.amount)), most.binary)
    older = (claim["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    if name := older or spec.get("storageClassName"):
        used |= {f"{name}{_BY_CLASS}{each}": amount for each, amount in used.items()}
    return used


def unsaid(pod: Mapping[str, Any], names: Iterable[str]) -> str:
    """What a pod's containers must say because a quota limits it, as part of upstream's sentence; "" if nothing."""
    spec = pod["spec"]
    if pod_resources.is_said_of_the_whole(spec):
        return ""
    required = _TO_BE_SAID.intersection(names)
    missing: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        said = _named(*(pod_resources.of_container(container, part) for part in (REQUESTS, LIMITS)))
        for name in required - said.keys():
            missing.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def is_in_scope(quota: ResourceQuotaSpec, resource: Resource[Any], obj: Mapping[str, Any]) -> bool:
    """Whether a quota is about an object: all of its scopes hold."""
    listed = [ScopedResourceSelectorRequirement(scopeName=scope, operator="Exists") for scope in quota.scopes]
    if quota.scopeSelector is not None:
        listed += quota.scopeSelector.matchExpressions
    return all(_holds(each, resource, obj) for each in listed)


def _holds(scope: ScopedResourceSelectorRequirement, resource: Resource[Any], obj: Mapping[str, Any]) -> bool:
    if resource.plural == CLAIMS:
        return scope.scopeName == "VolumeAttributesClass" and _holds_of_claim(scope, obj)
    if resource is not PODS:
        return False
    spec = obj["spec"]
    if scope.scopeName == "PriorityClass":
        return _is_selected(scope, [spec.get("priorityClassName") or ""])
    known = {
        "Terminating": lambda: is_terminating(obj),
        "NotTerminating": lambda: not is_terminating(obj),
        "BestEffort": lambda: _is_best_effort(spec),
        "NotBestEffort": lambda: not _is_best_effort(spec),
        "CrossNamespacePodAffinity": lambda: _looks_into_other_namespaces(spec),
    }
    return scope.scopeName in known and known[scope.scopeName]()


def is_terminating(pod: Mapping[str, Any]) -> bool:
    """Whether a pod ends by itself: it has a deadline."""
    deadline = pod["spec"].get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _is_best_effort(spec: Mapping[str, Any]) -> bool:
    containers = (spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    said = (pod_resources.of_container(each, part) for each in containers for part in (REQUESTS, LIMITS))
    return not any(part[name].amount for part in said for name in ("cpu", "memory") if name in part)


def _looks_into_other_namespaces(spec: Mapping[str, Any]) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        listed = affinity.get(kind) or {}
        terms = [
            *(listed.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *(
                each.get("podAffinityTerm") or {}
                for each in listed.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
            ),
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def _holds_of_claim(scope: ScopedResourceSelectorRequirement, claim: Mapping[str, Any]) -> bool:
    status = claim.get("status", {})
    names = (
        claim.get("spec", {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return _is_selected(scope, [name for name in names if name] or [""])


def _is_selected(scope: ScopedResourceSelectorRequirement, values: Iterable[str]) -> bool:
    """Whether one of the values, of which an empty one is none, meets what is asked of it."""
    expression = LabelSelectorRequirement(key="value", operator=scope.operator, values=scope.values)
    try:
        selector = selectors.from_label_selector(LabelSelector(matchExpressions=[expression]))
    except UsageError:
        return False
    return any(selector.matches({"value": value} if value else {}) for value in values)
