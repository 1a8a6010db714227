"""Pods that ask for more than their namespace allows are refused, and who writes a workload that will is warned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.resources import NAMESPACES, PODS, Resource
from netlab.api.server import refusals
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.admission.podsecurity import baseline, policy, restricted
from netlab.api.server.admission.podsecurity.baseline import Check, Violation
from netlab.api.server.admission.podsecurity.policy import BASELINE, LEVELS, PRIVILEGED, Demand, Policy
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store

_NAMESPACES: Resource[Any] = NAMESPACES
_PODS: Resource[Any] = PODS

_MOST_PODS = 3000
"""How many of a namespace's pods are looked at when it gets stricter (namespace-max-pods-to-check)."""

_CHANGES = ("", "ephemeralcontainers", "resize")
"""The subresources by which a pod's spec may change."""


def validate(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403, 422), or warn."""
    if attributes.operation is Operation.DELETE:
        return
    if attributes.resource is NAMESPACES:
        if not attributes.subresource:
            _validate_namespace(attributes, store)
        return
    is_pod = attributes.resource is PODS
    if attributes.subresource not in (_CHANGES if is_pod else ("",)):
        return
    stored = store.get(_NAMESPACES, "", attributes.namespace)
    wanted = policy.of_labels(stored.labels)[0] if stored is not None else Policy()
    if wanted.warn.level == PRIVILEGED and (not is_pod or wanted.enforce.level == PRIVILEGED):
        return
    template = attributes.obj if is_pod else _template(attributes.obj)
    if template is None or (is_pod and attributes.old is not None and not _is_news(attributes.obj, attributes.old)):
        return
    if is_pod and (found := _told(violations(wanted.enforce, template))):
        raise attributes.forbidden(f'violates PodSecurity "{wanted.enforce}": {found}')
    if found := _told(violations(wanted.warn, template)):
        attributes.warnings.append(f'would violate PodSecurity "{wanted.warn}": {found}')


def violations(demand: Demand, pod: Mapping[str, Any]) -> list[Violation]:
    """What of a pod, or of a template, goes against a demand."""
    annotations, spec = pod.get("metadata", {}).get("annotations") or {}, pod.get("spec") or {}
    found = (check(annotations, spec) for check in _checks(demand))
    return [each for each in found if each is not None]


def _checks(demand: Demand) -> Iterator[Check]:
    if demand.level == PRIVILEGED:
        return
    stricter = {name: _as_of(versions, demand.version) for name, versions in restricted.CHECKS.items()}
    if demand.level == BASELINE:
        stricter = {}
    replaced = {restricted.INSTEAD_OF.get(name) for name, check in stricter.items() if check is not None}
    for name, versions in baseline.CHECKS.items():
        check = _as_of(versions, demand.version)
        if check is not None and name not in replaced:
            yield check
    yield from (check for check in stricter.values() if check is not None)


def _as_of(versions: tuple[tuple[int, Check], ...], version: int) -> Check | None:
    """A check as it is in a version; None if there was none."""
    return next((check for since, check in reversed(versions) if since <= version), None)


def _told(found: list[Violation]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def _template(workload: JSONObject) -> JSONObject | None:
    spec = workload.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"].get("spec") or {}
    template: JSONObject | None = workload.get("template") or spec.get("template")
    return template


def _is_news(pod: JSONObject, old: JSONObject) -> bool:
    """Whether a change is one that has to be looked at: another image, or another container."""

    def images(of: JSONObject, kind: str) -> dict[str, str]:
        return {each["name"]: each.get("image", "") for each in of["spec"].get(kind) or ()}

    lasting = any(images(pod, kind) != images(old, kind) for kind in ("containers", "initContainers"))
    return lasting or bool(images(pod, "ephemeralContainers").items() - images(old, "ephemeralContainers").items())


def _validate_namespace(attributes: Attributes, store: Store) -> None:
    new, problems = policy.of_labels(attributes.obj["metadata"].get("labels") or {})
    if attributes.old is None:
        if problems:
            raise refusals.invalid(_NAMESPACES, attributes.name, problems)
        return
    old, known = policy.of_labels(attributes.old["metadata"].get("labels") or {})
    if problems and problems != known:
        raise refusals.invalid(_NAMESPACES, attributes.name, problems)
    is_relaxed = new.enforce.version == old.enforce.version and LEVELS.index(new.enforce.level) <= LEVELS.index(
        old.enforce.level
    )
    if new.enforce.level != PRIVILEGED and not is_relaxed:
        attributes.warnings.extend(_present_violations(attributes.name, new.enforce, store))


def _present_violations(namespace: str, demand: Demand, store: Store) -> list[str]:
    """What a namespace's pods do against a new demand: they go on, but would not be made again."""
    pods = [stored for stored in store.all(_PODS) if stored.namespace == namespace]
    names: dict[str, list[str]] = {}
    for stored in pods[:_MOST_PODS]:
        if found := violations(demand, stored.decode()):
            names.setdefault(", ".join(each.reason for each in found), []).append(stored.name)
    warnings = []
    if len(pods) > _MOST_PODS:
        checked = f"the first {_MOST_PODS} of {len(pods)} existing pods"
        warnings.append(f"new PodSecurity enforce level only checked against {checked}")
    if names:
        warnings.append(
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{demand}"'
        )
    return warnings + sorted(f"{_counted(listed)}: {reason}" for reason, listed in names.items())


def _counted(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{names[0]} (and {others} other {'pod' if others == 1 else 'pods'})"
