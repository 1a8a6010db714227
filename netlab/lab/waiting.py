"""Waits for objects: until a condition holds, until they are ready, or until they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import msgspec

from netlab.api.blocking import BlockingClient
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError
from netlab.api.meta_types import LabelSelector, Object
from netlab.api.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS, Resource
from netlab.api.selectors import from_label_selector
from netlab.counted import counted
from netlab.errors import TimedOutError
from netlab.lab.trouble import is_ready, trouble

_POLL = 0.02

Json = dict[str, Any]
Met = Callable[[Resource[Object], Json], str]
"""Returns what an object still lacks, in words; "" if nothing."""


class Target(NamedTuple):
    """An object to wait for; `namespace` is empty for a cluster-scoped one."""

    resource: Resource[Any]
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Its REST path."""
        return self.resource.object_path(self.namespace or None, self.name)

    def __str__(self) -> str:
        return f"{self.resource.singular}/{self.name}"


class Addressed(Protocol):
    """An object by its REST path, with a name for people."""

    @property
    def path(self) -> str:
        """Its REST path."""


def condition(kind: str, status: str = "True") -> Met:
    """Met when the object has the condition of that type (in upper or lower case, as with kubectl) and status."""

    def missing(_: Resource[Object], obj: Json) -> str:
        generation = obj.get("status", {}).get("observedGeneration")
        if generation is not None and generation < obj["metadata"].get("generation", 0):
            return f"condition {kind} is of an earlier generation"
        found = [c for c in obj.get("status", {}).get("conditions", []) if c["type"].lower() == kind.lower()]
        if found and found[0]["status"].lower() == status.lower():
            return ""
        return f"condition {kind} is {found[0]['status'] if found else 'not there'}"

    return missing


def field(path: str, value: str) -> Met:
    """Met when a field of the object has that value; `path` is, for example, `.status.phase`."""
    names = path.removeprefix(".").split(".")

    def missing(_: Resource[Object], obj: Json) -> str:
        found: Any = obj
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        shown = str(found).lower() if isinstance(found, bool) else str(found)
        return "" if found is not None and shown == value else f"{path} is {'not there' if found is None else shown}"

    return missing


def readiness(resource: Resource[Object], obj: Json) -> str:
    """Met when an object is ready: a pod is Ready or has succeeded, a Deployment is rolled out."""
    status = obj.get("status", {})
    if resource in (PODS, NODES):
        return "" if status.get("phase") == "Succeeded" else condition("Ready")(resource, obj)
    if resource is NAMESPACES:
        return "" if status.get("phase") == "Active" else f"it is {status.get('phase', 'new')}"
    return _missing_replicas(resource, obj) if resource in (DEPLOYMENTS, REPLICASETS) else ""


def _missing_replicas(resource: Resource[Object], obj: Json) -> str:
    status, wanted = obj.get("status", {}), obj["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "its controller has not seen it yet"
    if resource is DEPLOYMENTS and (updated := status.get("updatedReplicas", 0)) < wanted:
        return f"{updated} of {wanted} pods have its current template"
    if (surplus := status.get("replicas", 0) - wanted) > 0:
        return f"{counted(surplus, 'pod')} too many, or with an earlier template"
    available = status.get("availableReplicas", 0)
    return "" if available >= wanted else f"{available} of {wanted} pods are available"


def wait_for(
    client: BlockingClient,
    targets: Iterable[Target],
    met: Met,
    timeout: float,
    told: Callable[[Target], None] = lambda _: None,
) -> None:
    """Wait until each of the objects meets the condition; calls `told` for each.

    Raises `NotFoundError` for a missing object, `TimedOutError` saying what is missing and why, with the status of pods
    that are not ready.
    """
    deadline = time.monotonic() + timeout
    for target in targets:
        while missing := met(target.resource, obj := client.request("GET", target.path)):
            if time.monotonic() > deadline:
                raise TimedOutError(f"{target}: {missing} after {timeout:g} s{_why(client, target, obj)}")
            time.sleep(_POLL)
        told(target)


def wait_gone(
    client: BlockingClient,
    targets: Iterable[Addressed],
    timeout: float,
    told: Callable[[Addressed], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until each of the objects is gone; calls `told` for each. Raises `TimedOutError` saying what holds it."""
    deadline = time.monotonic() + timeout
    for target in targets:
        while (obj := _find(client, target.path)) is not None:
            progress(f"waiting for {target} to end")
            if time.monotonic() > deadline:
                raise TimedOutError(f"{target}: still there after {timeout:g} s: {_what_holds(obj)}")
            time.sleep(_POLL)
        told(target)


def targets_of(
    client: BlockingClient, resource: Resource[Object], namespace: str, name: str | None, selector: str
) -> list[Target]:
    """The object of that name. If that is None: the objects that a label selector matches ("": all)."""
    own = namespace if resource.namespaced else ""
    if name is not None:
        return [Target(resource, own, name)]
    params = {"labelSelector": selector} if selector else None
    found = client.request("GET", resource.path(own or None), params=params)["items"]
    return [Target(resource, own, obj["metadata"]["name"]) for obj in found]


def _find(client: BlockingClient, path: str) -> Json | None:
    try:
        found: Json = client.request("GET", path)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return None
    return found


def _what_holds(obj: Json) -> str:
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp"):
        return "it has not been deleted"
    if meta.get("finalizers"):
        return f"it waits for {', '.join(meta['finalizers'])}"
    return "it is ending"


def _why(client: BlockingClient, target: Target, obj: Json) -> str:
    """The reasons from an object's pods, or from its own conditions."""
    said = []
    if target.resource is PODS:
        said = [trouble(msgspec.convert(obj, Pod)).removeprefix(f"{target.name}: ")]
    elif target.resource in (DEPLOYMENTS, REPLICASETS):
        selector = from_label_selector(msgspec.convert(obj["spec"].get("selector", {}), LabelSelector))
        listed = client.request("GET", PODS.path(target.namespace))["items"]
        pods = [pod for pod in msgspec.convert(listed, list[Pod]) if selector.matches(pod.metadata.labels)]
        said = [trouble(pod) for pod in pods if not is_ready(pod)]
    if not said:
        conditions = obj.get("status", {}).get("conditions", [])
        said = [c["message"] for c in conditions if c.get("message") and c["status"] != "True"]
    return f": {'; '.join(said)}" if said else ""
