"""EndpointSlices as a proxy keeps them: only what it reads of up to 250,000 endpoints.

Without its pod's details an endpoint takes a third of the memory, and the garbage collector can ignore it.
"""

from __future__ import annotations

import dataclasses

import msgspec

from netlab.api import discovery_types
from netlab.api.meta_types import Struct
from netlab.api.resources import ENDPOINTSLICES, Resource
from netlab.proxy.planner import PROXY_NAME_LABEL


class EndpointConditions(discovery_types.EndpointConditions, gc=False):
    """See netlab.api.discovery_types."""


class Endpoint(Struct, kw_only=True, gc=False):
    """See netlab.api.discovery_types."""

    addresses: tuple[str, ...]
    """Like the API's list, but decoded in two thirds of the time."""
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    nodeName: str | None = None  # noqa: N815  # the API's name
    hints: discovery_types.EndpointHints | None = None


class EndpointSlice(discovery_types.EndpointSlice, kw_only=True):
    """See netlab.api.discovery_types."""

    endpoints: list[Endpoint]  # type: ignore[assignment]  # a list that nothing is added to


SLICES: Resource[discovery_types.EndpointSlice] = dataclasses.replace(ENDPOINTSLICES, type=EndpointSlice)
"""What a proxy reads from an API server."""

OUR_SERVICES = f"!{PROXY_NAME_LABEL}"
"""Those that no other proxy handles. That a Service is headless its ClusterIP says, not a label."""

OUR_SLICES = f"!{discovery_types.HEADLESS_LABEL}"
"""Those of Services with a ClusterIP: the label is the EndpointSlice controller's. Which proxy handles a Service, only
the Service says."""
