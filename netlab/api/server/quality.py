"""A pod's quality of service class (pkg/apis/core/helper/qos): what its containers ask for and may use."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from netlab.api.server.schema import JSONObject

_COUNTED = ("cpu", "memory")

_QUANTITY = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?)(?:[eE]([+-]?[0-9]{1,2})|([KMGTPE]i)|([numkMGTPE]))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


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
    """The amounts that are not zero; what cannot be read is nobody's (resources are stored unread)."""
    resources = container.get("resources")
    listed = resources.get(name) if isinstance(resources, dict) else None
    if not isinstance(listed, dict):
        return {}
    read = {what: _quantity(listed[what]) for what in _COUNTED if what in listed}
    return {what: amount for what, amount in read.items() if amount}


def _quantity(value: Any) -> Fraction:
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return Fraction(0)
    number, exponent, binary, decimal = match.groups()
    scale = Fraction(1024) ** _BINARY[binary] if binary else Fraction(10) ** int(exponent or _DECIMAL.get(decimal, 0))
    return Fraction(number) * scale
