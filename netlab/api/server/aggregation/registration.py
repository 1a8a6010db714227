"""The APIServices of what this server itself has: made, kept and removed by it (autoregister, crdregistration)."""

from __future__ import annotations

import logging
from typing import Any

from netlab.api.errors import ApiError
from netlab.api.resources import APISERVICES, SERVED, Resource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.catalog import CUSTOM_PRIORITY, Catalog
from netlab.api.server.registry.generic import Registry

LABEL = "kube-aggregator.kubernetes.io/automanaged"
"""On those that a server keeps."""
_ON_START, _ALWAYS = "onstart", "true"

_GROUPS = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "metrics.k8s.io": 100,
}
_VERSIONS = {("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21}
_VERSION = 15
"""Upstream's APIServicePriority of groups and versions."""

_APISERVICES: Resource[Any] = APISERVICES

log = logging.getLogger(__name__)


def wanted(catalog: Catalog) -> dict[str, JSONObject]:
    """The APIServices of all that a server has, by name; that of APIServices is none, so that it is always its own."""
    found: dict[str, JSONObject] = {}
    for custom in catalog.custom():
        found |= _local(custom, CUSTOM_PRIORITY, _ALWAYS)
    for each in SERVED:
        if each.group != APISERVICES.group:
            place = each.group, each.version
            priority = _GROUPS.get(each.group, CUSTOM_PRIORITY[0]), _VERSIONS.get(place, _VERSION)
            found |= _local(each, priority, _ON_START)
    return found


def _local(resource: Resource[Any], priority: tuple[int, int], kept: str) -> dict[str, JSONObject]:
    name = f"{resource.version}.{resource.group}"
    spec = {
        "group": resource.group,
        "version": resource.version,
        "groupPriorityMinimum": priority[0],
        "versionPriority": priority[1],
    }
    return {name: {"metadata": {"name": name, "labels": {LABEL: kept}}, "spec": spec}}


def reconcile(registry: Registry, *, starts: bool) -> None:
    """Make those that are missing, and remove those of definitions that are gone.

    Those of built-in versions are made as the server `starts`; who deletes or changes one later is let.
    """
    listed = wanted(registry.catalog)
    kept = {_ALWAYS, _ON_START} if starts else {_ALWAYS}
    for name, obj in listed.items():
        if obj["metadata"]["labels"][LABEL] in kept and registry.store.get(_APISERVICES, "", name) is None:
            _create(registry, name, obj)
    for stored in list(registry.store.all(_APISERVICES)):
        if stored.name not in listed and stored.labels.get(LABEL) in kept:
            _delete(registry, stored.name)


def _create(registry: Registry, name: str, obj: JSONObject) -> None:
    try:
        registry.create(_APISERVICES, "", obj)
    except ApiError as error:
        log.warning("APIService %s cannot be made: %s", name, error)


def _delete(registry: Registry, name: str) -> None:
    try:
        registry.delete(_APISERVICES, "", name)
    except ApiError as error:
        log.warning("APIService %s cannot be removed: %s", name, error)
