"""The ConfigMaps and Secrets that a container's variables are taken from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.client import Client
from netlab.api.core_types import ConfigMapKeySelector, Container, SecretKeySelector
from netlab.api.errors import unless_gone
from netlab.api.resources import CONFIGMAPS, SECRETS, Resource
from netlab.errors import UsageError

Source = tuple[str, str]
"""A kind, ConfigMap or Secret, and a name."""

Configured = Mapping[Source, Mapping[str, bytes] | None]
"""What the sources of a container hold; None: there is none of that name."""

_RESOURCES: dict[str, Resource[Any]] = {"ConfigMap": CONFIGMAPS, "Secret": SECRETS}


async def read(client: Client, namespace: str, container: Container) -> Configured:
    """What the sources of a container hold now. Raises what the client raises."""
    found: dict[Source, Mapping[str, bytes] | None] = {}
    for kind, name in _sources(container):
        if (kind, name) in found:
            continue
        obj = await unless_gone(client.get(_RESOURCES[kind], name, namespace))
        found[kind, name] = None if obj is None else obj.content()
    return found


def _sources(container: Container) -> Iterator[Source]:
    for each in container.envFrom:
        if each.configMapRef is not None:
            yield "ConfigMap", each.configMapRef.name
        if each.secretRef is not None:
            yield "Secret", each.secretRef.name
    for variable in container.env:
        source = variable.valueFrom
        if source is not None and source.configMapKeyRef is not None:
            yield "ConfigMap", source.configMapKeyRef.name
        if source is not None and source.secretKeyRef is not None:
            yield "Secret", source.secretKeyRef.name


def all_of(container: Container, configured: Configured) -> dict[str, str]:
    """The variables of envFrom, in order: of two with one name the later one counts.

    Raises `UsageError` for a source that is not there and not optional.
    """
    env: dict[str, str] = {}
    for each in container.envFrom:
        for kind, source in (("ConfigMap", each.configMapRef), ("Secret", each.secretRef)):
            if source is None:
                continue
            values = configured.get((kind, source.name))
            if values is None:
                if not source.optional:
                    raise UsageError(_absent(kind, source.name))
                continue
            env |= {each.prefix + key: _text(value) for key, value in values.items() if "=" not in each.prefix + key}
    return env


def one_of(
    kind: str, wanted: ConfigMapKeySelector | SecretKeySelector, namespace: str, configured: Configured
) -> str | None:
    """The value of one key; None if it is optional and not there. Raises `UsageError` if it has to be there."""
    values = configured.get((kind, wanted.name))
    if values is not None and wanted.key in values:
        return _text(values[wanted.key])
    if wanted.optional:
        return None
    if values is None:
        raise UsageError(_absent(kind, wanted.name))
    raise UsageError(f"couldn't find key {wanted.key} in {kind} {namespace}/{wanted.name}")


def _absent(kind: str, name: str) -> str:
    return f'{kind.lower()} "{name}" not found'


def _text(value: bytes) -> str:
    # A variable holds bytes, and Python's own form of those that are no text is what the process gets back.
    return value.decode(errors="surrogateescape")
