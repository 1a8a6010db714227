"""apiregistration.k8s.io/v1, with the field names of the Kubernetes API."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Condition, Object, Struct


class ServiceReference(Struct):
    """apiregistration/v1.ServiceReference."""

    namespace: str = ""
    name: str = ""
    port: int | None = None


class APIServiceSpec(Struct):
    """apiregistration/v1.APIServiceSpec; caBundle is base64 of PEM."""

    service: ServiceReference | None = None
    group: str = ""
    version: str = ""
    insecureSkipTLSVerify: bool = False
    caBundle: str = ""
    groupPriorityMinimum: int = 0
    versionPriority: int = 0


class APIServiceStatus(Struct):
    """apiregistration/v1.APIServiceStatus."""

    conditions: list[Condition] = []


class APIService(Object):
    """apiregistration/v1.APIService: who serves the version of an API group."""

    spec: APIServiceSpec = msgspec.field(default_factory=APIServiceSpec)
    status: APIServiceStatus = msgspec.field(default_factory=APIServiceStatus)
