"""The conditions of an object's status."""

from __future__ import annotations

from netlab.api.meta_types import now
from netlab.api.server.objects.schema import JSONObject


def set_condition(obj: JSONObject, kind: str, *, holds: bool, reason: str, message: str) -> None:
    """Say that a condition holds, or not."""
    conditions: list[JSONObject] = obj.setdefault("status", {}).setdefault("conditions", [])
    status = "True" if holds else "False"
    condition = next((each for each in conditions if each.get("type") == kind), None)
    if condition is None:
        condition = {"type": kind}
        conditions.append(condition)
    if condition.get("status") != status:
        condition["lastTransitionTime"] = now()
    condition |= {"status": status, "reason": reason, "message": message}
