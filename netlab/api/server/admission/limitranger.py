"""What one pod, container or claim may ask for, and what it asks for if it does not say.

The admission plugin LimitRanger of upstream (plugin/pkg/admission/limitranger).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import msgspec

from netlab.api import pod_resources, quantities
from netlab.api.pod_resources import LIMITS, REQUESTS, Amounts
from netlab.api.quantities import Quantity
from netlab.api.quota_types import LimitRange, LimitRangeItem
from netlab.api.resources import LIMITRANGES, PODS, Resource
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store

ANNOTATION = "kubernetes.io/limit-ranger"
"""Of a pod: what it was given."""

_CONTAINER, _POD, _CLAIM = "Container", "Pod", "PersistentVolumeClaim"
_KINDS = (("containers", "container"), ("initContainers", "init container"))

_LIMITRANGES: Resource[Any] = LIMITRANGES


def admit(attributes: Attributes, store: Store) -> None:
    """Give a new pod's containers the requests and limits that they do not say."""
    if attributes.resource is not PODS or not _is_concerned(attributes):
        return
    for limit_range in _of_namespace(attributes.namespace, store):
        _give_defaults(attributes.obj, limit_range)


def validate(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403) for what asks for too much or too little."""
    if not _is_concerned(attributes):
        return
    for limit_range in _of_namespace(attributes.namespace, store):
        find = _problems_of_pod if attributes.resource is PODS else _problems_of_claim
        problems = list(dict.fromkeys(find(limit_range, attributes.obj["spec"])))
        if problems:
            raise attributes.forbidden(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _is_concerned(attributes: Attributes) -> bool:
    if attributes.subresource or attributes.operation is Operation.DELETE:
        return False
    if attributes.operation is Operation.CREATE:
        return True
    # What a pod's containers ask for does not change.
    assert attributes.old is not None
    return attributes.resource is not PODS and "deletionTimestamp" not in attributes.old["metadata"]


def _of_namespace(namespace: str, store: Store) -> Iterator[LimitRange]:
    for stored in store.all(_LIMITRANGES):
        if stored.namespace == namespace:
            yield msgspec.json.decode(stored.raw, type=LimitRange)


def _give_defaults(pod: JSONObject, limit_range: LimitRange) -> None:
    given: dict[str, dict[str, Any]] = {REQUESTS: {}, LIMITS: {}}
    for item in limit_range.spec.limits:
        if item.type == _CONTAINER:
            given[REQUESTS] |= item.defaultRequest
            given[LIMITS] |= item.default
    said = []
    for kind, word in _KINDS:
        for container in pod["spec"].get(kind) or ():
            for part, name in ((REQUESTS, "request"), (LIMITS, "limit")):
                if added := _add_missing(container, part, given[part]):
                    said.append(f"{', '.join(added)} {name} for {word} {container.get('name', '')}")
    if said:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = annotations | {ANNOTATION: f"LimitRanger plugin set: {'; '.join(said)}"}


def _add_missing(container: JSONObject, part: str, given: Mapping[str, Any]) -> list[str]:
    present = (container.get("resources") or {}).get(part) or {}
    missing = {name: amount for name, amount in given.items() if name not in present}
    if missing:
        container["resources"] = (container.get("resources") or {}) | {part: present | missing}
    return sorted(missing)


def _problems_of_pod(limit_range: LimitRange, spec: Mapping[str, Any]) -> Iterator[str]:
    for item in limit_range.spec.limits:
        if item.type == _CONTAINER:
            for kind, _ in _KINDS:
                for container in spec.get(kind) or ():
                    requests, limits = (pod_resources.of_container(container, part) for part in (REQUESTS, LIMITS))
                    yield from _problems(item, requests, limits)
        elif item.type == _POD:
            requests, limits = (pod_resources.of_pod(spec, part, overhead=False) for part in (REQUESTS, LIMITS))
            yield from _problems(item, requests, limits)


def _problems_of_claim(limit_range: LimitRange, spec: Mapping[str, Any]) -> Iterator[str]:
    requests = pod_resources.amounts((spec.get("resources") or {}).get(REQUESTS))
    for item in limit_range.spec.limits:
        if item.type != _CLAIM:
            continue
        for name, least in pod_resources.amounts(item.min).items():
            yield from _too_little(item.type, name, least, requests, {})
        for name, most in pod_resources.amounts(item.max).items():
            asked = requests.get(name)
            said = f"maximum {name} usage per {item.type} is {most}"
            if asked is None:
                yield f"{said}.  No request is specified"
            elif asked.amount > most.amount:
                yield f"{said}, but request is {asked}"


def _problems(item: LimitRangeItem, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, least in pod_resources.amounts(item.min).items():
        yield from _too_little(item.type, name, least, requests, limits)
    for name, most in pod_resources.amounts(item.max).items():
        said = f"maximum {name} usage per {item.type} is {most}"
        limit, asked = limits.get(name), requests.get(name)
        if limit is None:
            yield f"{said}.  No limit is specified"
        elif limit.amount > most.amount:
            yield f"{said}, but limit is {limit}"
        elif asked is not None and asked.amount > most.amount:
            yield f"{said}, but request is {asked}"
    for name, ratio in pod_resources.amounts(item.maxLimitRequestRatio).items():
        yield from _too_far_apart(item.type, name, ratio, requests, limits)


def _too_little(kind: str, name: str, least: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"minimum {name} usage per {kind} is {least}"
    asked, limit = requests.get(name), limits.get(name)
    if asked is None:
        yield f"{said}.  No request is specified"
    elif asked.amount < least.amount:
        yield f"{said}, but request is {asked}"
    elif limit is not None and limit.amount < least.amount:
        yield f"{said}, but limit is {limit}"


def _too_far_apart(kind: str, name: str, ratio: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"{name} max limit to request ratio per {kind} is {ratio}"
    asked, limit = (part.get(name, quantities.ZERO).amount for part in (requests, limits))
    if not asked:
        yield f"{said}, but no request is specified or request is 0"
    elif not limit:
        yield f"{said}, but no limit is specified or limit is 0"
    elif Fraction(limit, asked) > ratio.amount:
        yield f"{said}, but provided ratio is {float(Fraction(limit, asked)):f}"
