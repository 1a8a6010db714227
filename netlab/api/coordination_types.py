"""coordination.k8s.io/v1 Lease, with the field names of the Kubernetes API (1.31)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Object, Struct


class LeaseSpec(Struct):
    """coordination.k8s.io/v1.LeaseSpec; times are metav1.MicroTime."""

    holderIdentity: str | None = None
    leaseDurationSeconds: int | None = None
    acquireTime: str | None = None
    renewTime: str | None = None
    leaseTransitions: int | None = None


class Lease(Object):
    """coordination.k8s.io/v1.Lease."""

    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
