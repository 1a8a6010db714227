"""What the server says of itself: /version, and the discovery documents by which kubectl finds the resources."""

from __future__ import annotations

import platform
from typing import Any

import netlab
from netlab.api.resources import ALL, NAMESPACES, PODS, Resource

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

KUBERNETES = ("1", "31")
"""The version of the API that is spoken."""


def version() -> dict[str, Any]:
    """version.Info."""
    major, minor = KUBERNETES
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+netlab.{netlab.__version__}",
        "platform": f"linux/{platform.machine()}",
    }


def core_versions() -> dict[str, Any]:
    """/api: metav1.APIVersions."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups() -> dict[str, Any]:
    """/apis: metav1.APIGroupList."""
    names = dict.fromkeys(resource.group for resource in ALL if resource.group)
    listed = [{key: value for key, value in group(name).items() if key != "apiVersion"} for name in names]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(name: str) -> dict[str, Any]:
    """/apis/GROUP: metav1.APIGroup; a group that the server has."""
    versions = dict.fromkeys(resource.version for resource in ALL if resource.group == name)
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(group_name: str, version_name: str) -> dict[str, Any]:
    """/api/v1 and /apis/GROUP/VERSION: metav1.APIResourceList."""
    served = [resource for resource in ALL if (resource.group, resource.version) == (group_name, version_name)]
    listed = [entry for resource in served for entry in _entries(resource)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].api_version,
        "resources": listed,
    }


def _entries(resource: Resource[Any]) -> list[dict[str, Any]]:
    common = {"namespaced": resource.namespaced, "kind": resource.kind}
    entries = [
        {"name": resource.plural, "singularName": resource.singular}
        | common
        | {"verbs": list(VERBS), "shortNames": list(resource.short_names)}
    ]
    if resource.has_status:
        status = {"name": f"{resource.plural}/status", "singularName": ""}
        entries.append(status | common | {"verbs": ["get", "patch", "update"]})
    if resource is PODS:
        binding = {"name": "pods/binding", "singularName": "", "namespaced": True, "kind": "Binding"}
        entries.append(binding | {"verbs": ["create"]})
    if resource is NAMESPACES:
        entries.append({"name": "namespaces/finalize", "singularName": ""} | common | {"verbs": ["update"]})
    return entries
