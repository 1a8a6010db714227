"""The Service `kubernetes`, by which pods reach the API: upstream's controlplane/controller/kubernetesservice."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence
from typing import Any

from netlab.api.discovery_types import SERVICE_NAME_LABEL
from netlab.api.errors import ApiError
from netlab.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES, Resource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.generic import Registry

NAMESPACE, NAME = "default", "kubernetes"
_EVERY = 10.0
"""Seconds after which what was deleted or changed is there again, as upstream."""

log = logging.getLogger(__name__)


async def keep(registry: Registry, addresses: Sequence[str], port: int) -> None:
    """Keep the Service and its endpoints as they are to be, until cancelled."""
    while True:
        await asyncio.sleep(_EVERY)
        reconcile(registry, addresses, port)


def reconcile(registry: Registry, addresses: Sequence[str], port: int) -> None:
    """Make the Service and its endpoints what they are to be. The server is at these addresses and this port."""
    if not addresses:
        return
    # The primary family's alone, as the real server: the Service is of one family.
    version = ipaddress.ip_address(addresses[0]).version
    endpoints = [each for each in addresses if ipaddress.ip_address(each).version == version]
    for resource, wanted in (
        (SERVICES, _service(registry.first_address, port)),
        (ENDPOINTS, _endpoints(endpoints, port)),
        (ENDPOINTSLICES, _slice(endpoints, version, port)),
    ):
        try:
            _ensure(registry, resource, wanted)
        except ApiError as error:
            log.warning("%s %s/%s: %s", resource.plural, NAMESPACE, NAME, error)


def _ensure(registry: Registry, resource: Resource[Any], wanted: JSONObject) -> None:
    stored = registry.store.get(resource, NAMESPACE, NAME)
    if stored is None:
        registry.create(resource, NAMESPACE, wanted)
    elif resource is not SERVICES:
        # Of the Service everything but its being there is its users' matter.
        registry.update(resource, NAMESPACE, NAME, wanted)


def _meta(labels: dict[str, str]) -> JSONObject:
    return {"name": NAME, "namespace": NAMESPACE, "labels": labels}


def _service(address: str, port: int) -> JSONObject:
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
    }
    return {"metadata": _meta({"component": "apiserver", "provider": "kubernetes"}), "spec": spec}


def _endpoints(addresses: Sequence[str], port: int) -> JSONObject:
    subset = {
        "addresses": [{"ip": each} for each in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    return {"metadata": _meta({"endpointslice.kubernetes.io/skip-mirror": "true"}), "subsets": [subset]}


def _slice(addresses: Sequence[str], version: int, port: int) -> JSONObject:
    return {
        "metadata": _meta({SERVICE_NAME_LABEL: NAME}),
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
