"""APIServices as JSON: their defaults and conditions."""

from __future__ import annotations

from typing import NamedTuple

from netlab.api.server.objects.conditions import set_condition
from netlab.api.server.objects.schema import JSONObject

AVAILABLE = "Available"
"""The condition."""

_PORT = 443


class Verdict(NamedTuple):
    """Whether what an APIService names can be had, and why."""

    available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
"""Of what this server itself has."""


def default(obj: JSONObject) -> None:
    """apiregistration/v1.APIService."""
    service = obj["spec"].get("service")
    if service is not None:
        service.setdefault("port", _PORT)


def complete_status(obj: JSONObject) -> None:
    """What this server itself has can be had at once."""
    told = any(each.get("type") == AVAILABLE for each in obj.get("status", {}).get("conditions", ()))
    if obj["spec"].get("service") is None and not told:
        set_condition(obj, AVAILABLE, holds=True, reason=LOCAL.reason, message=LOCAL.message)
