"""What a plan is made of: the objects of the API as they are at one moment, by key."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping

from netlab.api.config_types import Secret
from netlab.api.core_types import Service
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.networking_types import Ingress, IngressClass


@dataclasses.dataclass(frozen=True)
class Objects:
    """By NAMESPACE/NAME, classes by NAME, EndpointSlices by NAMESPACE/NAME of their Service."""

    ingresses: Mapping[str, Ingress] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, IngressClass] = dataclasses.field(default_factory=dict)
    services: Mapping[str, Service] = dataclasses.field(default_factory=dict)
    slices: Mapping[str, list[EndpointSlice]] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Secret] = dataclasses.field(default_factory=dict)


def by_service(slices: Iterable[EndpointSlice]) -> Mapping[str, list[EndpointSlice]]:
    """EndpointSlices by the Service that they belong to."""
    found: defaultdict[str, list[EndpointSlice]] = defaultdict(list)
    for each in slices:
        found[f"{each.metadata.namespace}/{each.metadata.labels.get(SERVICE_NAME_LABEL, '')}"].append(each)
    return found
