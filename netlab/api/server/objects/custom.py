"""Objects of custom resources: checked by what their definition says of them."""

from __future__ import annotations

from netlab.api.resources import STATUS
from netlab.api.server import refusals
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import checking
from netlab.api.server.objects.structural.nodes import ABSENT


def check(resource: CustomResource, new: JSONObject, old: JSONObject | None, problems: Problems) -> None:
    """Complain about a whole object."""
    checking.check(new, resource.root, problems, old)


def check_status(resource: CustomResource, new: JSONObject, sent: JSONObject, old: JSONObject) -> None:
    """Refuse a status that is wrong; one that was not sent is none. Raises `ApiError` (422)."""
    if STATUS not in sent:
        new.pop(STATUS)
        return
    node = resource.root.properties.get(STATUS)
    if node is None:
        return
    problems = Problems()
    checking.check_value(new[STATUS], node, STATUS, problems, old.get(STATUS, ABSENT))
    if problems:
        raise refusals.invalid(resource, new["metadata"]["name"], problems)
