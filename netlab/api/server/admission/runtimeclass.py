"""A pod of a RuntimeClass has that one's overhead, and goes where it is (plugin/pkg/admission/runtimeclass)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netlab.api.resources import RUNTIMECLASSES, Resource
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store

_CLASSES: Resource[Any] = RUNTIMECLASSES

_ANOTHER = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
_NONE = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"


def admit(attributes: Attributes, store: Store) -> None:
    """Add the overhead, the node selector and the tolerations. Raises `ApiError` (403)."""
    if attributes.operation is not Operation.CREATE or attributes.subresource:
        return
    spec = attributes.obj["spec"]
    runtime = _class_of(attributes, store)
    if (overhead := _overhead(runtime)) is not None and spec.setdefault("overhead", dict(overhead)) != overhead:
        raise attributes.forbidden(_ANOTHER)
    scheduling = runtime.get("scheduling") or {}
    selector = spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if (present := selector.setdefault(key, value)) != value:
            ours, theirs = f"runtimeClass.scheduling.nodeSelector[{key}]", f"pod.spec.nodeSelector[{key}]"
            raise attributes.forbidden(f"conflict: {ours} = {value}; {theirs} = {present}")
        spec["nodeSelector"] = selector
    if tolerations := scheduling.get("tolerations"):
        spec["tolerations"] = merged([*(spec.get("tolerations") or ()), *tolerations])


def validate(attributes: Attributes, store: Store) -> None:
    """Refuse an overhead that is not the class's. Raises `ApiError` (403)."""
    if attributes.operation is not Operation.CREATE or attributes.subresource:
        return
    overhead = _overhead(_class_of(attributes, store))
    found = attributes.obj["spec"].get("overhead")
    if overhead is None and found:
        raise attributes.forbidden(_NONE)
    if overhead is not None and found != overhead:
        raise attributes.forbidden(_ANOTHER)


def _class_of(attributes: Attributes, store: Store) -> JSONObject:
    name = attributes.obj["spec"].get("runtimeClassName")
    if not name:
        return {}
    stored = store.get(_CLASSES, "", name)
    if stored is None:
        raise attributes.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
    return stored.decode()


def _overhead(runtime: JSONObject) -> JSONObject | None:
    overhead = runtime.get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def merged(tolerations: Sequence[JSONObject]) -> list[JSONObject]:
    """Tolerations without those that another one includes (pkg/util/tolerations, MergeTolerations)."""
    kept: list[JSONObject] = []
    for index, each in enumerate(tolerations):
        later = (other for other in tolerations[index + 1 :] if other != each)
        if not any(_includes(other, each) for other in (*kept, *later)):
            kept.append(each)
    return kept


def _includes(wide: JSONObject, narrow: JSONObject) -> bool:
    """Whether one toleration tolerates all that another one does."""
    if wide == narrow:
        return True
    exists = wide.get("operator") == "Exists"
    if wide.get("key", "") != narrow.get("key", "") and (wide.get("key") or not exists):
        return False
    if wide.get("effect") and wide["effect"] != narrow.get("effect"):
        return False
    seconds, asked = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and seconds is not None and (asked is None or asked > seconds):
        return False
    return exists or (narrow.get("operator") != "Exists" and wide.get("value", "") == narrow.get("value", ""))
