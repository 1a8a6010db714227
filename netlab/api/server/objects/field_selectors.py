"""Field selectors: `spec.nodeName=node-1,status.phase!=Running`, over the fields each kind offers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from netlab.api.resources import (
    APISERVICES,
    CERTIFICATESIGNINGREQUESTS,
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    INGRESSCLASSES,
    INGRESSES,
    JOBS,
    LEASES,
    LIMITRANGES,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    PRIORITYCLASSES,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    ROLEBINDINGS,
    ROLES,
    RUNTIMECLASSES,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    STATEFULSETS,
    STORED,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    Resource,
)
from netlab.api.server.objects import versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.errors import UsageError

_COMMON = ("metadata.name", "metadata.namespace")

SELECTABLE: dict[str, tuple[str, ...]] = {
    NAMESPACES.plural: ("metadata.name", "status.phase"),
    NODES.plural: ("metadata.name", "spec.unschedulable"),
    RUNTIMECLASSES.plural: ("metadata.name",),
    NETWORKPOLICIES.plural: _COMMON,
    INGRESSES.plural: _COMMON,
    INGRESSCLASSES.plural: ("metadata.name",),
    PODS.plural: (
        *_COMMON,
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    SERVICES.plural: (*_COMMON, "spec.clusterIP", "spec.type"),
    EVENTS.plural: (
        *_COMMON,
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
    DEPLOYMENTS.plural: _COMMON,
    REPLICASETS.plural: _COMMON,
    REPLICATIONCONTROLLERS.plural: (*_COMMON, "status.replicas"),
    DAEMONSETS.plural: _COMMON,
    STATEFULSETS.plural: _COMMON,
    CERTIFICATESIGNINGREQUESTS.plural: ("metadata.name", "spec.signerName"),
    CONTROLLERREVISIONS.plural: _COMMON,
    LIMITRANGES.plural: _COMMON,
    MUTATINGWEBHOOKCONFIGURATIONS.plural: _COMMON,
    VALIDATINGWEBHOOKCONFIGURATIONS.plural: _COMMON,
    RESOURCEQUOTAS.plural: _COMMON,
    JOBS.plural: (*_COMMON, "status.successful"),
    CRONJOBS.plural: _COMMON,
    PODDISRUPTIONBUDGETS.plural: _COMMON,
    PRIORITYCLASSES.plural: ("metadata.name",),
    SECRETS.plural: (*_COMMON, "type"),
    ENDPOINTSLICES.plural: _COMMON,
    LEASES.plural: _COMMON,
    **{resource.plural: _COMMON for resource in STORED},
    CUSTOMRESOURCEDEFINITIONS.plural: ("metadata.name",),
    APISERVICES.plural: _COMMON,
    CONFIGMAPS.plural: _COMMON,
    SERVICEACCOUNTS.plural: _COMMON,
    ROLES.plural: _COMMON,
    ROLEBINDINGS.plural: _COMMON,
    CLUSTERROLES.plural: ("metadata.name",),
    CLUSTERROLEBINDINGS.plural: ("metadata.name",),
}
"""The fields by which each resource can be selected: upstream's own (pkg/apis/*/v1/conversion.go)."""

_TERM = re.compile(r"(?P<field>[^=!]+)(?P<operator>==|!=|=)(?P<value>.*)", re.DOTALL)
_COMMA = re.compile(r"(?<!\\)(?:\\\\)*,")
_ESCAPED = re.compile(r"\\([\\,=])")


@dataclasses.dataclass(frozen=True)
class FieldSelector:
    """All terms must hold: (field, whether it must be equal, value)."""

    terms: tuple[tuple[str, bool, str], ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether an object with these fields (of `read`) is selected."""
        return all((fields[field] == value) is equal for field, equal, value in self.terms)


EVERYTHING = FieldSelector()
"""Selects every object."""


def parse(text: str, resource: Resource[Any]) -> FieldSelector:
    """Of the objects of a resource, whose fields may be called otherwise where they are stored (Resource.renamed).

    Raises `UsageError` for a text that cannot be read or a field by which the resource cannot be selected."""
    terms = []
    known = _selectable(resource)
    for part in _split(text):
        match = _TERM.fullmatch(part)
        if match is None:
            raise UsageError(f"invalid field selector: '{part}'; can't understand '{text}': write field=value")
        field = match["field"].strip()
        field = versions.selectable(resource.renamed, field)
        if field not in known:
            listed = ", ".join(known)
            raise UsageError(f"field label not supported: {field}; {resource.plural} can be selected by {listed}")
        terms.append((field, match["operator"] != "!=", _ESCAPED.sub(r"\1", match["value"])))
    return FieldSelector(tuple(terms))


def _selectable(resource: Resource[Any]) -> tuple[str, ...]:
    if isinstance(resource, CustomResource):
        return (*(_COMMON if resource.namespaced else _COMMON[:1]), *resource.selectable)
    return SELECTABLE[resource.plural]


def _split(text: str) -> list[str]:
    parts, start = [], 0
    for comma in _COMMA.finditer(text):
        parts.append(text[start : comma.end() - 1])
        start = comma.end()
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


_PATHS = {plural: [(field, field.split(".")) for field in fields] for plural, fields in SELECTABLE.items()}
_TRUTH_VALUES = frozenset({"spec.unschedulable", "spec.hostNetwork"})


def read(obj: JSONObject, plural: str, raw: bytes) -> Mapping[str, str]:
    """The values of an object's selectable fields, as text; absent is empty (and `false` for a truth value).

    `raw` is its JSON. Which fields of a custom resource these are, its definition says at the time of asking.
    """
    if plural not in _PATHS:
        return _OnDemand(raw)
    return {field: _text(obj, path) or ("false" if field in _TRUTH_VALUES else "") for field, path in _PATHS[plural]}


class _OnDemand(Mapping[str, str]):
    """The fields of an object, each read when it is asked for."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __getitem__(self, field: str) -> str:
        return _text(msgspec.json.decode(self._raw), field.split("."))

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMON)

    def __len__(self) -> int:
        return len(_COMMON)


def _text(obj: JSONObject, path: list[str]) -> str:
    value: Any = obj
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
