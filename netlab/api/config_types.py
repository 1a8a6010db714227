"""v1 ConfigMap, Secret, ServiceAccount and Endpoints, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

import base64

from netlab.api.core_types import ObjectReference
from netlab.api.meta_types import Ignored, Object, Struct


class ConfigMap(Object):
    """v1.ConfigMap; binaryData is base64."""

    data: dict[str, str] = {}
    binaryData: dict[str, str] = {}
    immutable: bool | None = None

    def content(self) -> dict[str, bytes]:
        """The value of each key, as a file has it."""
        values = {key: value.encode() for key, value in self.data.items()}
        return values | {key: base64.b64decode(value) for key, value in self.binaryData.items()}


class Secret(Object):
    """v1.Secret; data is base64, and what is sent as stringData comes into it."""

    data: dict[str, str] = {}
    stringData: dict[str, str] = {}
    type: str = ""
    immutable: bool | None = None

    def content(self) -> dict[str, bytes]:
        """The value of each key."""
        return {key: base64.b64decode(value) for key, value in self.data.items()}


class ServiceAccount(Object):
    """v1.ServiceAccount: an identity of pods."""

    automountServiceAccountToken: bool | None = None
    secrets: Ignored = None
    imagePullSecrets: Ignored = None


class EndpointAddress(Struct):
    """v1.EndpointAddress."""

    ip: str
    hostname: str = ""
    nodeName: str | None = None
    targetRef: ObjectReference | None = None


class EndpointPort(Struct):
    """v1.EndpointPort."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    appProtocol: str | None = None


class EndpointSubset(Struct):
    """v1.EndpointSubset: each of the addresses has each of the ports."""

    addresses: list[EndpointAddress] = []
    notReadyAddresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class Endpoints(Object):
    """v1.Endpoints: the addresses of a Service, as clients before EndpointSlices read them."""

    subsets: list[EndpointSubset] = []
