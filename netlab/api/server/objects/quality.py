"""A pod's quality of service class (pkg/apis/core/helper/qos): what its containers ask for and may use."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from netlab.api import quantities
from netlab.api.server.objects.schema import JSONObject

_COUNTED = ("cpu", "memory")


def qos_class(spec: JSONObject) -> str:
    """Guaranteed, Burstable or BestEffort, of a pod's spec."""
    asked, guaranteed = False, True
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        limits, requests = (_amounts(container, name) for name in ("limits", "requests"))
        requests = limits | requests
        asked = asked or bool(limits or requests)
        guaranteed = guaranteed and limits == requests and set(limits) == set(_COUNTED)
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _amounts(container: JSONObject, name: str) -> dict[str, Fraction]:
    """The amounts that are not zero; what cannot be read is nobody's (quantities are stored unread)."""
    listed = container.get("resources", {}).get(name, {})
    read = {what: _quantity(listed[what]) for what in _COUNTED if what in listed}
    return {what: amount for what, amount in read.items() if amount}


def _quantity(value: Any) -> Fraction:
    try:
        return quantities.parse(str(value))
    except ValueError:
        return Fraction(0)
