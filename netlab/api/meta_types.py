"""The part every Kubernetes object shares: apimachinery's metav1.

Attribute names are Kubernetes' JSON field names, so that anyone who knows the API knows these classes. Decoding ignores
unknown fields, so that components can read from a newer API server; netlab's own server refuses them
(netlab.api.server). A field annotated `Ignored` is a valid Kubernetes field that is stored and returned but has no
effect in netlab; the server warns about it.
"""

from __future__ import annotations

import datetime
import functools
import time
from typing import Annotated, Any

import msgspec

Ignored = Annotated[Any, msgspec.Meta(extra={"ignored": True})]
"""Valid in Kubernetes, stored unchanged, without effect in netlab."""

Int64 = Annotated[int, msgspec.Meta(extra={"int64": True})]
"""A number of 64 bits; a plain `int` of an API type has 32, as upstream."""

Quantity = str | Int64 | float
"""resource.Quantity."""

IntOrString = int | str
"""util/intstr.IntOrString: a port number or the name of a port."""


class Struct(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all API values: keyword-only, defaults left out of the JSON."""


class OwnerReference(Struct):
    """metav1.OwnerReference."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class ObjectMeta(Struct):
    """metav1.ObjectMeta."""

    name: str = ""
    generateName: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: Int64 = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: Int64 | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    ownerReferences: list[OwnerReference] = []
    finalizers: list[str] = []
    selfLink: Ignored = None


class Object(Struct):
    """Any API object: what the server, the client and the informers need to know about one."""

    apiVersion: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for a cluster-scoped object (client-go's MetaNamespaceKeyFunc)."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name


class ListMeta(Struct):
    """metav1.ListMeta."""

    resourceVersion: str = ""
    # `continue` is a Python keyword; netlab's server gives every list whole and never sends it.
    continue_: str = msgspec.field(name="continue", default="")
    remainingItemCount: Int64 | None = None
    selfLink: Ignored = None


class LabelSelectorRequirement(Struct):
    """metav1.LabelSelectorRequirement; operator is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Struct):
    """metav1.LabelSelector: all of matchLabels and matchExpressions must hold."""

    matchLabels: dict[str, str] = {}
    matchExpressions: list[LabelSelectorRequirement] = []


class StatusCause(Struct):
    """metav1.StatusCause: one reason why a request was refused, with the path of the field."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Struct):
    """metav1.StatusDetails."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] = []
    retryAfterSeconds: int = 0


class Status(Struct):
    """metav1.Status: the answer to a request that failed, and to a delete."""

    apiVersion: str = "v1"
    kind: str = "Status"
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    status: str = "Failure"
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


class Condition(Struct):
    """The condition of a Pod, a Node or a Deployment; status is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    lastTransitionTime: str | None = None
    lastHeartbeatTime: str | None = None
    lastProbeTime: str | None = None
    lastUpdateTime: str | None = None
    observedGeneration: Int64 | None = None


def now() -> str:
    """The current time as Kubernetes writes it: RFC 3339, UTC, whole seconds (metav1.Time)."""
    return format_time(time.time())


def format_time(seconds: float) -> str:
    """A metav1.Time for seconds since the epoch."""
    return _format_second(int(seconds))


@functools.lru_cache(maxsize=64)  # each pod's start writes a dozen times, most of them the current second
def _format_second(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


def now_micro() -> str:
    """The current time with microseconds (metav1.MicroTime)."""
    moment = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"
