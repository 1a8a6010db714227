"""What containers ask for of a node, and are allowed to use (ValidateResourceRequirements)."""

from __future__ import annotations

from fractions import Fraction

from netlab.api import quantities, selectors
from netlab.api.core_types import PodSpec, ResourceRequirements
from netlab.api.meta_types import Quantity
from netlab.api.server.objects.problems import Problems

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_OF_A_POD = ("cpu", "memory")
"""What may be asked for a whole pod (KEP-2837); besides, hugepages-SIZE."""
_HUGE_PAGES = "hugepages-"


def pod_resources(spec: PodSpec, path: str, problems: Problems) -> None:
    """The resources of a pod and of each of its containers."""
    for field, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            if container.resources is not None:
                _requirements(container.resources, f"{path}.{field}[{index}].resources", problems)
    if spec.resources is not None:
        _requirements(spec.resources, f"{path}.resources", problems)
        for part, listed in (("limits", spec.resources.limits), ("requests", spec.resources.requests)):
            for name in listed:
                if name not in _OF_A_POD and not name.startswith(_HUGE_PAGES):
                    detail = ("cpu", "memory", f"{_HUGE_PAGES}SIZE")
                    problems.one_of(f"{path}.resources.{part}[{name}]", name, detail)
    for name, value in spec.overhead.items():
        _amount(f"{path}.overhead[{name}]", name, value, problems)


def _requirements(resources: ResourceRequirements, path: str, problems: Problems) -> None:
    amounts: dict[str, dict[str, Fraction]] = {}
    for part, listed in (("limits", resources.limits), ("requests", resources.requests)):
        found = amounts[part] = {}
        for name, value in listed.items():
            amount = _amount(f"{path}.{part}[{name}]", name, value, problems)
            if amount is not None:
                found[name] = amount
    for name, asked in amounts["requests"].items():
        limit = amounts["limits"].get(name)
        place = f"{path}.requests"
        if limit is None:
            if _is_never_shared(name) and name not in resources.limits:
                problems.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif _is_never_shared(name) and asked != limit:
            text = resources.requests[name]
            problems.invalid(place, text, f"must be equal to {name} limit of {resources.limits[name]}")
        elif asked > limit:
            text = resources.requests[name]
            problems.invalid(place, text, f"must be less than or equal to {name} limit of {resources.limits[name]}")


def _amount(path: str, name: str, value: Quantity, problems: Problems) -> Fraction | None:
    if not selectors.is_label_key(name):
        problems.invalid(path, name, "must be a qualified name, as a label's key is")
    elif "/" not in name and name not in _STANDARD and not name.startswith(_HUGE_PAGES):
        problems.invalid(path, name, "must be a standard resource type or fully qualified")
    try:
        amount = quantities.parse(str(value))
    except ValueError as error:
        problems.invalid(path, value, str(error))
        return None
    if amount < 0:
        problems.invalid(path, value, "must be greater than or equal to 0")
    elif is_extended(name) and amount.denominator != 1:
        problems.invalid(path, value, "must be an integer")
    return amount


def is_extended(name: str) -> bool:
    """Whether a resource is one that Kubernetes does not know (IsExtendedResourceName)."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _is_never_shared(name: str) -> bool:
    return is_extended(name) or name.startswith(_HUGE_PAGES)
