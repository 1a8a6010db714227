"""EndpointSlices as cluster DNS keeps them: what names are made of, and nothing of their pods."""

# ruff: noqa: N815  # names are the API's

from __future__ import annotations

import dataclasses
from typing import TypedDict

import msgspec

from netlab.api import discovery_types
from netlab.api.discovery_types import SERVICE_NAME_LABEL
from netlab.api.meta_types import Struct
from netlab.api.resources import ENDPOINTSLICES as ALL_OF_ENDPOINTSLICES
from netlab.api.resources import Resource

# The name is that of a constant, which the type checker does not follow.
_Labels = TypedDict("_Labels", {SERVICE_NAME_LABEL: str}, total=False)  # type: ignore[misc]


class SliceMeta(Struct, gc=False):
    """See netlab.api.meta_types.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    labels: _Labels = {}


class Conditions(Struct, gc=False):
    """See netlab.api.discovery_types."""

    ready: bool | None = None


class Endpoint(Struct, gc=False):
    """See netlab.api.discovery_types."""

    addresses: tuple[str, ...]
    hostname: str | None = None
    conditions: Conditions = msgspec.field(default_factory=Conditions)


class EndpointSlice(discovery_types.EndpointSlice, kw_only=True, gc=False):
    """See netlab.api.discovery_types. The type checker takes its parts for the API's own."""

    metadata: SliceMeta = msgspec.field(default_factory=SliceMeta)  # type: ignore[assignment]
    endpoints: tuple[Endpoint, ...]  # type: ignore[assignment]
    ports: tuple[discovery_types.EndpointPort, ...] = ()  # type: ignore[assignment]


ENDPOINTSLICES: Resource[discovery_types.EndpointSlice] = dataclasses.replace(ALL_OF_ENDPOINTSLICES, type=EndpointSlice)
"""What cluster DNS reads from an API server."""
