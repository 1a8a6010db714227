"""The certificate by which pods trust the API server, read once for all pods of a namespace that start together."""

from __future__ import annotations

import asyncio
import time

from netlab.api.client import Client
from netlab.api.config_types import ConfigMap
from netlab.api.resources import CONFIGMAPS

ROOT_CA = "kube-root-ca.crt"
"""The ConfigMap, in each namespace."""

_FRESH = 60.0
"""Seconds for which one that was read is good (kubelet's cache of ConfigMaps, where it is not told of changes)."""


class RootCertificates:
    """The ConfigMaps of that name that a kubelet has read lately."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reading: dict[str, tuple[float, asyncio.Task[ConfigMap]]] = {}

    async def of(self, namespace: str) -> ConfigMap:
        """That of a namespace. Raises what the client raises."""
        now = time.monotonic()
        self._reading = {name: each for name, each in self._reading.items() if now - each[0] <= _FRESH}
        if namespace not in self._reading:
            self._reading[namespace] = now, asyncio.create_task(self._client.get(CONFIGMAPS, ROOT_CA, namespace))
        entry = self._reading[namespace]
        try:
            # One pod that gives up does not take it from the others.
            return await asyncio.shield(entry[1])
        except Exception:
            # The next one asks again: a new namespace's is made in a moment.
            if self._reading.get(namespace) is entry:
                del self._reading[namespace]
            raise
