"""What a pod asks of the chained CNI plugins: `runtimeConfig`, by the capabilities that they declare.

A netlab plugin that only does what a pod asks for is skipped for a pod that asks for nothing. That is most pods, and
each execution would delay their start.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Any

from netlab.api import quantities
from netlab.api.core_types import Pod
from netlab.cni.runtime.configurations import NetworkList
from netlab.errors import UsageError

BANDWIDTH, PORT_MAPPINGS = "bandwidth", "portMappings"

CHAINED = {"netlab-portmap": PORT_MAPPINGS, "netlab-bandwidth": BANDWIDTH}
"""netlab's plugins chained after the one that connects a pod, in order, with the capability of each."""

_ANNOTATIONS = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}

_LEAST, _MOST = 1_000, 10**15
"""Bits per second (pkg/util/bandwidth, validateBandwidthIsReasonable)."""

_BURST = 0.1
"""The burst, in seconds of the rate. Other runtimes allow 2³² bits, so that half a gigabyte passes unshaped."""

_LEAST_BURST = 8 * 32 * 1024


def runtime_config(pod: Pod) -> dict[str, Any]:
    """The capability arguments of a pod. Raises `UsageError` naming an annotation that is not valid."""
    found: dict[str, Any] = {}
    if bandwidth := _bandwidth(pod):
        found[BANDWIDTH] = bandwidth
    if mappings := _port_mappings(pod):
        found[PORT_MAPPINGS] = mappings
    return found


def _bandwidth(pod: Pod) -> dict[str, int]:
    found = {}
    for direction, name in _ANNOTATIONS.items():
        text = pod.metadata.annotations.get(name)
        if text is None:
            continue
        try:
            rate = quantities.parse(text)
        except ValueError as error:
            raise UsageError(f"annotation {name}: {text!r} {error}") from None
        if not _LEAST <= rate <= _MOST:
            size = "small (less than 1 kbit/s)" if rate < _LEAST else "large (more than 1 Pbit/s)"
            raise UsageError(f"annotation {name}: {text!r} is unreasonably {size}")
        found[f"{direction}Rate"] = int(rate)
        found[f"{direction}Burst"] = max(int(rate * _BURST), _LEAST_BURST)
    return found


def _port_mappings(pod: Pod) -> list[dict[str, Any]]:
    return [
        {
            "hostPort": port.hostPort,
            "containerPort": port.containerPort,
            "protocol": port.protocol.lower(),
            **({"hostIP": port.hostIP} if port.hostIP and not ipaddress.ip_address(port.hostIP).is_unspecified else {}),
        }
        for container in pod.spec.containers
        for port in container.ports
        if port.hostPort
    ]


def needed(network: NetworkList, asked: Mapping[str, Any]) -> NetworkList:
    """The network without the plugins that have nothing to do."""
    plugins = tuple(plugin for plugin in network.plugins if not _is_idle(plugin, asked))
    return network if plugins == network.plugins else dataclasses.replace(network, plugins=plugins)


def _is_idle(plugin: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    capability = CHAINED.get(plugin["type"])
    return capability is not None and capability not in asked and plugin.keys() <= {"type", "capabilities"}
