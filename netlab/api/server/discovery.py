"""What the server says of itself: /version, and the discovery documents by which kubectl finds the resources."""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

import netlab
from netlab.api.resources import KUBERNETES, Kind, Resource, Subresource
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.rest.negotiation import Answer

GROUP = "apidiscovery.k8s.io"

AGGREGATED = frozenset(Kind(GROUP, version, "APIGroupDiscoveryList") for version in ("v2", "v2beta1"))
"""The forms of a list of all groups with all that is in them (KEP-3352)."""


def version() -> dict[str, Any]:
    """version.Info: all of its fields, because generated clients require them."""
    major, minor = KUBERNETES
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+netlab.{netlab.__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{platform.machine()}",
    }


def core_versions() -> dict[str, Any]:
    """/api: metav1.APIVersions."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(catalog: Catalog) -> dict[str, Any]:
    """/apis: metav1.APIGroupList."""
    listed = [
        {key: value for key, value in group(catalog, name).items() if key != "apiVersion"} for name in catalog.groups()
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(catalog: Catalog, name: str) -> dict[str, Any]:
    """/apis/GROUP: metav1.APIGroup; a group that the server has."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in catalog.versions(name)]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def listed(served: Sequence[Resource[Any]]) -> dict[str, Any]:
    """/api/v1 and /apis/GROUP/VERSION: metav1.APIResourceList; of all that there is of a version."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].api_version,
        "resources": [entry for resource in served for entry in _entries(resource)],
    }


def _entries(resource: Resource[Any]) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": sorted(resource.verbs),
    }
    entry |= _other_names(resource)
    if "get" in resource.verbs:
        entry["storageVersionHash"] = _storage_version_hash(resource.stored_as or resource)
    return [entry, *(_entry_of_part(resource, each) for each in resource.subresources)]


def _storage_version_hash(resource: Resource[Any]) -> str:
    """By which clients see that objects are stored in another version (apiserver pkg/endpoints/discovery)."""
    kind = "/".join((resource.group, resource.version, resource.kind))
    return base64.b64encode(hashlib.sha256(kind.encode()).digest()[:8]).decode()


def _other_names(resource: Resource[Any]) -> dict[str, list[str]]:
    found = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {key: names for key, names in found.items() if names}


def _entry_of_part(resource: Resource[Any], part: Subresource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": f"{resource.plural}/{part.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": part.kind.kind if part.kind else resource.kind,
        "verbs": sorted(part.verbs),
    }
    if part.kind and part.kind[:2] != (resource.group, resource.version):
        entry |= {"group": part.kind.group, "version": part.kind.version}
    return entry


# --- aggregated ------------------------------------------------------------------------------------------------------


class Aggregate(NamedTuple):
    """A document, its media type, and an entity tag that changes with it."""

    raw: bytes
    media_type: str
    tag: str


def aggregated(catalog: Catalog, answer: Answer, *, core: bool) -> Aggregate:
    """All groups of /apis, or with `core` the one of /api: apidiscovery.APIGroupDiscoveryList."""
    form = answer.form
    assert form is not None
    listed = [""] if core else catalog.groups()
    document = {
        "kind": form.kind,
        "apiVersion": f"{form.group}/{form.version}",
        "metadata": {},
        "items": [_aggregated_group(catalog, name) for name in listed],
    }
    raw = msgspec.json.encode(document)
    media_type = f"{answer.format.media_type};g={form.group};v={form.version};as={form.kind}"
    return Aggregate(answer.format.encode(raw), media_type, f'"{hashlib.sha256(raw).hexdigest().upper()}"')


def _aggregated_group(catalog: Catalog, name: str) -> dict[str, Any]:
    versions = [_aggregated_version(catalog, name, version_name) for version_name in catalog.versions(name)]
    # The core group has no name.
    return {"metadata": {"name": name} if name else {}, "versions": versions}


def _aggregated_version(catalog: Catalog, group_name: str, version_name: str) -> dict[str, Any]:
    delegation = catalog.delegated.get((group_name, version_name))
    if delegation is not None:
        freshness = "Current" if delegation.available else "Stale"
        return {"version": version_name, "resources": delegation.resources, "freshness": freshness}
    resources = [_aggregated_resource(resource) for resource in catalog.resources(group_name, version_name)]
    return {"version": version_name, "resources": resources, "freshness": "Current"}


def _aggregated_resource(resource: Resource[Any]) -> dict[str, Any]:
    own = Kind(resource.group, resource.version, resource.kind)
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": own._asdict(),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": sorted(resource.verbs),
    }
    entry |= _other_names(resource)
    if resource.subresources:
        entry["subresources"] = [
            {"subresource": each.name, "responseKind": (each.kind or own)._asdict(), "verbs": sorted(each.verbs)}
            for each in resource.subresources
        ]
    return entry
