"""The parts of objects that are objects of another kind: a workload's Scale, and a pod's Binding and Eviction."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from netlab.api import printers
from netlab.api.meta_types import Object, Struct
from netlab.api.resources import Kind, Resource
from netlab.api.server import refusals
from netlab.api.server.objects.definitions import CustomResource, ScalePaths
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry import managed_fields
from netlab.api.server.registry.deletions import DeleteOptions

_T = TypeVar("_T", bound=Object)

SCALE = Kind("autoscaling", "v1", "Scale")
_EVICTIONS = ("policy/v1", "policy/v1beta1")

_REPLICAS = ("spec", "replicas")

_METADATA_OF_SCALE = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


class _ScaleSpec(Struct):
    replicas: int = 0


class _ScaleStatus(Struct):
    replicas: int = 0
    selector: str = ""


class _Scale(Object):
    """autoscaling/v1.Scale."""

    spec: _ScaleSpec = msgspec.field(default_factory=_ScaleSpec)
    status: _ScaleStatus = msgspec.field(default_factory=_ScaleStatus)


SCALES: Resource[Any] = Resource(SCALE.group, SCALE.version, SCALE.kind, "scales", _Scale)
"""As if there were such objects by themselves: their fields."""


class _Eviction(Object):
    """policy/v1.Eviction."""

    deleteOptions: DeleteOptions = msgspec.field(default_factory=DeleteOptions)  # noqa: N815


def scale_of(workload: JSONObject, paths: ScalePaths | None = None) -> JSONObject:
    """How many pods a workload is to have, and has; of a custom resource, by the paths that its definition names.

    Raises `ApiError` (500) if such an object does not say how many it is to have.
    """
    if paths is None:
        spec = workload["spec"]
        wanted, has = spec.get("replicas", 0), workload.get("status", {}).get("replicas", 0)
        selector = _selector(spec.get("selector"))
    else:
        wanted, has = _at(workload, paths.spec_replicas, int), _at(workload, paths.status_replicas, int) or 0
        selector = _at(workload, paths.selector, str) or ""
        if wanted is None:
            field = "." + ".".join(paths.spec_replicas)
            raise refusals.broken(f'the spec replicas field "{field}" does not exist')
    meta = workload["metadata"]
    return {
        "kind": SCALE.kind,
        "apiVersion": f"{SCALE.group}/{SCALE.version}",
        "metadata": {name: meta[name] for name in _METADATA_OF_SCALE if name in meta},
        "spec": {"replicas": wanted},
        "status": {"replicas": has, "selector": selector},
    }


def _at(obj: Any, path: tuple[str, ...], kind: type) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj if type(obj) is kind else None


def _selector(value: JSONObject | None) -> str:
    # That of a ReplicationController is a map of labels.
    is_map = value is not None and not value.keys() & {"matchLabels", "matchExpressions"}
    return printers.labels(value) if is_map else printers.selector(value)


def scaled(workload: JSONObject, sent: Any, paths: ScalePaths | None = None) -> JSONObject:
    """The workload with the number of pods that a Scale asks for. Raises `ApiError` (400, 422)."""
    scale = _read(sent, _Scale, SCALE.kind, (f"{SCALE.group}/{SCALE.version}",))
    meta = workload["metadata"]
    _check_name(scale, meta["name"])
    _check_replicas(scale, meta["name"])
    # If it says which version it was made from, that is checked as an update's.
    given = {"uid": scale.metadata.uid, "resourceVersion": scale.metadata.resourceVersion}
    expected = {name: value for name, value in given.items() if value}
    path = paths.spec_replicas if paths is not None else _REPLICAS
    return _with(workload, path, scale.spec.replicas) | {"metadata": meta | expected}


def _with(obj: JSONObject, path: tuple[str, ...], value: int) -> JSONObject:
    """A copy with a value at a path."""
    name, *rest = path
    if not rest:
        return obj | {name: value}
    below = obj.get(name)
    return obj | {name: _with(below if isinstance(below, dict) else {}, tuple(rest), value)}


def applied_scale(resource: Resource[Object], config: JSONObject) -> JSONObject:
    """What an applied Scale says of its workload, as an object to be applied to that. Raises `ApiError` (400, 422)."""
    managed_fields.check_applied(SCALES, config)
    scale = _read(config, _Scale, SCALE.kind, (SCALES.api_version,))
    _check_replicas(scale, scale.metadata.name)
    names = ("name", "namespace", "uid", "resourceVersion")
    spec = config.get("spec") or {}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {name: value for name, value in config["metadata"].items() if name in names},
        **_wanted(resource, scale.spec.replicas if spec.get("replicas") is not None else None),
    }


def _wanted(resource: Resource[Object], replicas: int | None) -> JSONObject:
    path = resource.scale.spec_replicas if isinstance(resource, CustomResource) and resource.scale else _REPLICAS
    return {path[0]: {}} if replicas is None else _with({}, path, replicas)


def _check_replicas(scale: _Scale, name: str) -> None:
    problems = Problems()
    problems.not_negative("spec.replicas", scale.spec.replicas)
    if problems:
        raise refusals.invalid_options(SCALE.kind, problems, SCALE.group, name)


def eviction_options(sent: Any, pod: str) -> DeleteOptions:
    """How an Eviction deletes a pod. Raises `ApiError` (400)."""
    eviction = _read(sent, _Eviction, "Eviction", _EVICTIONS)
    _check_name(eviction, pod)
    return eviction.deleteOptions


def bound_node(sent: JSONObject) -> str:
    """The node that a Binding names. Raises `ApiError` (400)."""
    node = sent.get("target")
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(name, str) or not name:
        raise refusals.bad_request("a Binding needs the name of a Node as its target.name")
    return name


def _read(sent: Any, struct: type[_T], kind: str, versions: tuple[str, ...]) -> _T:
    try:
        obj = msgspec.convert(sent, struct)
    except msgspec.ValidationError as error:
        raise refusals.bad_request(f"{kind}: {error}") from None
    if obj.kind not in ("", kind) or obj.apiVersion not in ("", *versions):
        found, expected = f"{obj.kind} of {obj.apiVersion}", f"{kind} of {versions[0]}"
        raise refusals.bad_request(f"the object in the data ({found}) is not the expected one ({expected})")
    return obj


def _check_name(obj: Object, name: str) -> None:
    if obj.metadata.name not in ("", name):
        message = f"the name of the object ({obj.metadata.name}) does not match the name on the URL ({name})"
        raise refusals.bad_request(message)
