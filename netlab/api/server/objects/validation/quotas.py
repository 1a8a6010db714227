"""ResourceQuotas and LimitRanges (pkg/apis/core/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from netlab.api import pod_resources, quantities, selectors
from netlab.api.meta_types import Quantity
from netlab.api.quota_types import LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec
from netlab.api.server.objects.problems import Problems

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_NUMBERS = (
    *("pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps"),
    *("persistentvolumeclaims", "services.nodeports", "services.loadbalancers"),
)
"""What is counted in whole numbers."""
_OF_QUOTAS = (
    *_COMPUTE,
    *_NUMBERS,
    *(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE),
    "requests.storage",
)
_OF_PODS = ("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
_OF_CLAIMS = ("persistentvolumeclaims", "requests.storage")
_SCOPES: Mapping[str, Sequence[str]] = {
    "Terminating": _OF_PODS,
    "NotTerminating": _OF_PODS,
    "BestEffort": ("pods",),
    "NotBestEffort": _OF_PODS,
    "PriorityClass": _OF_PODS,
    "CrossNamespacePodAffinity": _OF_PODS,
    "VolumeAttributesClass": _OF_CLAIMS,
}
"""Each scope, and of the names of `_OF_QUOTAS` those for which it makes sense."""
_WITH_VALUES = ("PriorityClass", "VolumeAttributesClass")
_EXCLUDE_EACH_OTHER = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_TYPES = ("Pod", "Container", "PersistentVolumeClaim")


def quota(new: ResourceQuota, problems: Problems) -> None:
    """v1.ResourceQuota."""
    _amounts(new.spec.hard, "spec.hard", problems)
    _amounts(new.status.hard, "status.hard", problems)
    _amounts(new.status.used, "status.used", problems)
    _scopes(new.spec, problems)
    if new.spec.scopeSelector is not None:
        _scope_selector(new.spec, problems)


def quota_update(new: ResourceQuota, old: ResourceQuota, problems: Problems) -> None:
    """A quota's scopes stay."""
    if set(new.spec.scopes) != set(old.spec.scopes):
        problems.invalid("spec.scopes", new.spec.scopes, "field is immutable")


def _amounts(listed: Mapping[str, Quantity], path: str, problems: Problems) -> None:
    for name, value in listed.items():
        place = f"{path}[{name}]"
        bare = name.removeprefix("requests.").startswith(pod_resources.HUGE_PAGES)
        _qualified(place, name, problems)
        if "/" not in name and name not in _OF_QUOTAS and not bare:
            problems.invalid(place, name, "must be a standard resource for quota")
        amount = _amount(place, value, problems)
        if amount is not None and amount < 0:
            problems.invalid(place, value, "must be greater than or equal to 0")
        elif amount is not None and name in _NUMBERS and amount.denominator != 1:
            problems.invalid(place, value, "must be an integer")


def _qualified(path: str, name: str, problems: Problems) -> None:
    if not selectors.is_label_key(name):
        problems.invalid(path, name, "must be a qualified name, as a label's key is")


def _amount(path: str, value: Quantity, problems: Problems) -> Fraction | None:
    try:
        return quantities.parse(str(value))
    except ValueError as error:
        problems.invalid(path, value, str(error))
        return None


def _scopes(spec: ResourceQuotaSpec, problems: Problems) -> None:
    path = "spec.scopes"
    for scope in spec.scopes:
        if scope not in _SCOPES:
            problems.invalid(path, spec.scopes, "unsupported scope")
        elif not _fits(scope, spec):
            problems.invalid(path, spec.scopes, "unsupported scope applied to resource")
    _exclusions(set(spec.scopes), spec, problems)


def _fits(scope: str, spec: ResourceQuotaSpec) -> bool:
    return all(name in _SCOPES[scope] for name in spec.hard if name in _OF_QUOTAS)


def _exclusions(scopes: set[str], spec: ResourceQuotaSpec, problems: Problems) -> None:
    if any(scopes >= pair for pair in _EXCLUDE_EACH_OTHER):
        problems.invalid("spec.scopes", spec.scopes, "conflicting scopes")


def _scope_selector(spec: ResourceQuotaSpec, problems: Problems) -> None:
    assert spec.scopeSelector is not None
    path = "spec.scopeSelector.matchExpressions"
    for each in spec.scopeSelector.matchExpressions:
        if each.scopeName not in _SCOPES:
            problems.invalid(f"{path}.scopeName", each.scopeName, "unsupported scope")
        elif not _fits(each.scopeName, spec):
            problems.invalid(path, each, "unsupported scope applied to resource")
        elif each.scopeName not in _WITH_VALUES and each.operator != "Exists":
            detail = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            problems.invalid(f"{path}.operator", each.operator, detail)
        if each.operator in ("In", "NotIn"):
            if not each.values:
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                problems.required(f"{path}.values", detail)
        elif each.operator not in ("Exists", "DoesNotExist"):
            problems.invalid(f"{path}.operator", each.operator, "not a valid selector operator")
        elif each.values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            problems.invalid(f"{path}.values", each.values, detail)
    _exclusions({each.scopeName for each in spec.scopeSelector.matchExpressions}, spec, problems)


def limit_range(new: LimitRange, problems: Problems) -> None:
    """v1.LimitRange."""
    seen: set[str] = set()
    for index, item in enumerate(new.spec.limits):
        path = f"spec.limits[{index}]"
        if "/" not in item.type and item.type not in _TYPES:
            problems.invalid(f"{path}.type", item.type, "must be a standard limit type or fully qualified")
        if item.type in seen:
            problems.duplicate(f"{path}.type", item.type)
        seen.add(item.type)
        _limit_range_item(item, path, problems)


def _limit_range_item(item: LimitRangeItem, path: str, problems: Problems) -> None:
    if item.type == "Pod":
        for field in ("default", "defaultRequest"):
            if getattr(item, field):
                problems.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
    if item.type == "PersistentVolumeClaim" and "storage" not in item.min.keys() | item.max.keys():
        detail = "either minimum or maximum storage value is required, but neither was provided"
        problems.required(f"{path}.limits", detail)
    of: dict[str, dict[str, Fraction]] = {}
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        found = of[field] = {}
        for name, value in getattr(item, field).items():
            place = f"{path}.{field}[{name}]"
            _qualified(place, name, problems)
            amount = _amount(place, value, problems)
            if amount is not None:
                found[name] = amount
    for field, (value, detail) in _contradictions(item, of):
        problems.invalid(f"{path}.{field}", value, detail)


_NOT_MORE_THAN = (
    ("min", "max", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
)
"""Of two fields the first must not be more than the second; which is said to be wrong, and how."""


def _contradictions(
    item: LimitRangeItem, of: Mapping[str, Mapping[str, Fraction]]
) -> Iterator[tuple[str, tuple[Quantity, str]]]:
    for less, more, wrong, words in _NOT_MORE_THAN:
        for name in of[less].keys() & of[more].keys():
            if of[less][name] > of[more][name]:
                said = words.format(getattr(item, less)[name], getattr(item, more)[name])
                yield f"{wrong}[{name}]", (getattr(item, wrong)[name], said)
    for name, ratio in of["maxLimitRequestRatio"].items():
        place, value = f"maxLimitRequestRatio[{name}]", item.maxLimitRequestRatio[name]
        if ratio < 1:
            yield place, (value, f"ratio {value} is less than 1")
        least, most = of["min"].get(name), of["max"].get(name)
        if least and most is not None and ratio > most / least:
            yield place, (value, f"ratio {value} is greater than max/min = {float(most / least):f}")
