"""The matchConditions of webhooks: expressions of CEL over a request (apiserver plugin/webhook/matchconditions)."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.admission_types import MatchCondition
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import expressions
from netlab.api.server.objects.validation.webhooks import CONDITION_VARIABLES


class ConditionError(Exception):
    """A condition cannot be evaluated."""


def hold(conditions: Sequence[MatchCondition], request: JSONObject) -> bool:
    """Whether all conditions hold for a request (admission/v1.AdmissionRequest).

    One that does not hold is enough, whatever becomes of the others. Raises `ConditionError`.
    """
    data = {"object": request.get("object"), "oldObject": request.get("oldObject"), "request": request}
    why = ""
    for each in conditions:
        try:
            result = expressions.program(each.expression, CONDITION_VARIABLES).eval(data=data)
        except (RuntimeError, ValueError) as error:
            why = why or f"{each.name}: {error}"
            continue
        if result.type().name() == "BOOL":
            if not result.value():
                return False
        else:
            why = why or f"{each.name}: {result.value()}"
    if why:
        raise ConditionError(why)
    return True
