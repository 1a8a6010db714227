"""A registry over a real database, and the smallest manifests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import Resource
from netlab.api.server.registry.allocators import Ranges
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.sqlite import Sqlite
from netlab.api.server.storage.store import Store

DUAL = ("10.96.0.0/24", "fd00:10:96::/112")
PORTS = "30000-30099"


@contextlib.contextmanager
def opened(
    place: Path | Callable[[], Backend], cidrs: tuple[str, ...] = DUAL, ports: str = PORTS
) -> Iterator[Registry]:
    """A registry over the SQLite database of that path, or over another backend."""
    store = Store(Sqlite(place) if isinstance(place, Path) else place())
    try:
        yield Registry(store, Ranges.parse(cidrs, ports))
    finally:
        store.close()


def create(registry: Registry, resource: Resource[Any], manifest: dict[str, Any], namespace: str = "default") -> Any:
    place = namespace if resource.namespaced else ""
    return msgspec.json.decode(registry.create(resource, place, manifest).raw)


def update(registry: Registry, resource: Resource[Any], obj: dict[str, Any], subresource: str = "") -> Any:
    meta = obj["metadata"]
    place = meta.get("namespace", "")
    return msgspec.json.decode(registry.update(resource, place, meta["name"], obj, subresource=subresource).raw)


@contextlib.contextmanager
def refused(code: int, *texts: str) -> Iterator[None]:
    """What happens within is refused with that code, and the message holds these texts."""
    with pytest.raises(ApiError) as refusal:
        yield
    assert refusal.value.code == code, str(refusal.value)
    for text in texts:
        assert text in str(refusal.value)


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "agnhost:2.47"}]} | spec}


def service(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]} | spec}


def deployment(name: str = "d", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": pod()["spec"]}
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template} | spec,
    }


def endpoint_slice(name: str = "e", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.1.2"]}]} | fields
