"""Nothing is stored that a ResourceQuota of its namespace has no room for (apiserver plugin/resourcequota).

What a request uses up is charged to the quota in the step of the event loop in which its object is stored, so two
requests never get the same room. What becomes free again, and what a new quota starts with, is the quota controller's
matter.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from netlab.api import pod_resources, quantities, usage
from netlab.api.pod_resources import Amounts
from netlab.api.quantities import Quantity
from netlab.api.quota_types import ResourceQuota
from netlab.api.resources import PODS, RESOURCEQUOTAS, SERVICES, Resource
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store

_QUOTAS: Resource[Any] = RESOURCEQUOTAS


def charge(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403) if there is no room for an object; else write down that it is used."""
    if not attributes.resource.namespaced or not _uses_up(attributes):
        return
    charged: list[JSONObject] = []
    now = datetime.datetime.now(datetime.UTC)
    for stored in store.all(_QUOTAS):
        if stored.namespace == attributes.namespace:
            quota = msgspec.json.decode(stored.raw, type=ResourceQuota)
            used = _used_with(quota, attributes, now)
            if used is not None:
                obj = stored.decode()
                obj["status"] = obj["status"] | {"used": {name: str(amount) for name, amount in used.items()}}
                charged.append(obj)
    if not attributes.dry_run:
        for obj in charged:
            store.put(_QUOTAS, obj)


def _uses_up(attributes: Attributes) -> bool:
    """Whether an operation may use up more than was used before."""
    if attributes.operation is Operation.CREATE:
        return not attributes.subresource
    if attributes.operation is Operation.DELETE:
        return False
    assert attributes.old is not None
    resource = attributes.resource
    if resource is PODS:
        # Then other quotas are about it.
        is_resized = attributes.subresource == "resize"
        return is_resized or usage.is_terminating(attributes.old) != usage.is_terminating(attributes.obj)
    if resource is SERVICES:
        return not attributes.subresource
    return resource.collection == usage.CLAIMS and attributes.subresource in ("", "status")


def _used_with(quota: ResourceQuota, attributes: Attributes, now: datetime.datetime) -> Amounts | None:
    """What is used of a quota once the object is stored; None if it uses up nothing of this one. Raises `ApiError`."""
    resource, obj, name = attributes.resource, attributes.obj, quota.metadata.name
    hard, used = pod_resources.amounts(quota.status.hard), pod_resources.amounts(quota.status.used)
    counted = usage.counted(resource, hard)
    if not counted or not usage.is_in_scope(quota.spec, resource, obj):
        return None
    if resource is PODS and (unsaid := usage.unsaid(obj, counted)):
        raise attributes.forbidden(f"failed quota: {name}: must specify {unsaid}")
    if not used.keys() >= set(counted):
        raise attributes.forbidden(f"status unknown for quota: {name}, resources: {','.join(counted)}")
    more = _more(quota, attributes, now)
    asked = {each: more[each] for each in counted if each in more}
    if not asked:
        return None
    after = {each: used[each] + amount for each, amount in asked.items()}
    exceeded = [each for each in counted if each in after and after[each].amount > hard[each].amount]
    if exceeded and attributes.subresource != "status":
        requested, present, limited = (_listed(part, exceeded) for part in (asked, used, hard))
        said = f"requested: {requested}, used: {present}, limited: {limited}"
        raise attributes.forbidden(f"exceeded quota: {name}, {said}")
    return used | after


def _more(quota: ResourceQuota, attributes: Attributes, now: datetime.datetime) -> Amounts:
    """What an operation uses up beyond what the object has used up of this quota before."""
    resource = attributes.resource
    new = usage.of(resource, attributes.obj, now)
    negative = sorted(name for name, amount in new.items() if amount.amount < 0)
    if negative:
        raise attributes.forbidden(f"quota usage is negative for resource(s): {','.join(negative)}")
    before: Amounts = {}
    if attributes.old is not None and usage.is_in_scope(quota.spec, resource, attributes.old):
        before = usage.of(resource, attributes.old, now)
    differences = {
        name: Quantity(amount.amount - before.get(name, quantities.ZERO).amount, amount.binary)
        for name, amount in new.items()
    }
    return {name: amount for name, amount in differences.items() if amount.amount > 0}


def _listed(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in names)
