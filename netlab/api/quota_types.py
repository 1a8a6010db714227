"""v1 ResourceQuota and LimitRange, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Object, Quantity, Struct


class ScopedResourceSelectorRequirement(Struct):
    """v1.ScopedResourceSelectorRequirement: operator is In, NotIn, Exists or DoesNotExist."""

    scopeName: str
    operator: str
    values: list[str] = []


class ScopeSelector(Struct):
    """v1.ScopeSelector: all must hold."""

    matchExpressions: list[ScopedResourceSelectorRequirement] = []


class ResourceQuotaSpec(Struct):
    """v1.ResourceQuotaSpec."""

    hard: dict[str, Quantity] = {}
    scopes: list[str] = []
    scopeSelector: ScopeSelector | None = None


class ResourceQuotaStatus(Struct):
    """v1.ResourceQuotaStatus: the limits that are in force, and what is used of them."""

    hard: dict[str, Quantity] = {}
    used: dict[str, Quantity] = {}


class ResourceQuota(Object):
    """v1.ResourceQuota: how much there may be in a namespace together."""

    spec: ResourceQuotaSpec = msgspec.field(default_factory=ResourceQuotaSpec)
    status: ResourceQuotaStatus = msgspec.field(default_factory=ResourceQuotaStatus)


class LimitRangeItem(Struct):
    """v1.LimitRangeItem: type is Pod, Container or PersistentVolumeClaim."""

    type: str
    max: dict[str, Quantity] = {}
    min: dict[str, Quantity] = {}
    default: dict[str, Quantity] = {}
    defaultRequest: dict[str, Quantity] = {}
    maxLimitRequestRatio: dict[str, Quantity] = {}


class LimitRangeSpec(Struct):
    """v1.LimitRangeSpec."""

    limits: list[LimitRangeItem]


class LimitRange(Object):
    """v1.LimitRange: how much one pod, container or claim of a namespace may ask for, and what it asks for if it does
    not say."""

    spec: LimitRangeSpec = msgspec.field(default_factory=lambda: LimitRangeSpec(limits=[]))
