"""Objects for the tests, from the few values that matter to each."""

from __future__ import annotations

import itertools
from typing import Any

from netlab.api.core_types import (
    Container,
    ContainerPort,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    ResourceRequirements,
    Taint,
    Toleration,
)
from netlab.api.meta_types import Condition, ObjectMeta, OwnerReference, Quantity

_numbers = itertools.count(1)


def owner(uid: str, kind: str = "ReplicaSet") -> OwnerReference:
    return OwnerReference(apiVersion="apps/v1", kind=kind, name=uid, uid=uid, controller=True)


def node(
    name: str,
    *,
    ready: str = "True",
    pods: str = "110",
    cpu: str = "4",
    memory: str = "8Gi",
    extended: dict[str, Quantity] | None = None,
    taints: tuple[Taint, ...] = (),
    unschedulable: bool = False,
    labels: dict[str, str] | None = None,
    cidrs: tuple[str, ...] = (),
) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, labels=labels or {}, uid=f"uid-{name}"),
        spec=NodeSpec(unschedulable=unschedulable, taints=list(taints), podCIDRs=list(cidrs)),
        status=NodeStatus(
            allocatable={"pods": pods, "cpu": cpu, "memory": memory, **(extended or {})},
            conditions=[Condition(type="Ready", status=ready)] if ready else [],
        ),
    )


def pod(
    name: str = "",
    *,
    owned_by: str = "",
    on: str = "",
    labels: dict[str, str] | None = None,
    ips: tuple[str, ...] = (),
    ready: bool = False,
    ready_since: str = "2026-01-01T00:00:00Z",
    phase: str = "Running",
    host_ports: tuple[ContainerPort, ...] = (),
    ports: tuple[ContainerPort, ...] = (),
    tolerations: tuple[Toleration, ...] = (),
    selector: dict[str, str] | None = None,
    deleted: bool = False,
    created: str = "2026-01-01T00:00:00Z",
    annotations: dict[str, str] | None = None,
    namespace: str = "default",
    asks: dict[str, Quantity] | None = None,
    started: str | None = None,
    **spec: Any,
) -> Pod:
    name = name or f"pod-{next(_numbers)}"
    condition = Condition(type="Ready", status="True" if ready else "False", lastTransitionTime=ready_since)
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            uid=f"uid-{name}",
            labels=labels or {},
            annotations=annotations or {},
            creationTimestamp=created,
            deletionTimestamp="2026-01-01T00:00:00Z" if deleted else None,
            ownerReferences=[owner(owned_by)] if owned_by else [],
        ),
        spec=PodSpec(
            containers=[
                Container(
                    name="c",
                    ports=[*host_ports, *ports],
                    resources=ResourceRequirements(requests=asks) if asks else None,
                )
            ],
            nodeName=on,
            tolerations=list(tolerations),
            nodeSelector=selector or {},
            **spec,
        ),
        status=PodStatus(
            phase=phase,
            startTime=started,
            podIP=ips[0] if ips else "",
            podIPs=[PodIP(ip=ip) for ip in ips],
            conditions=[condition],
        ),
    )
