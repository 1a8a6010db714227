"""A node's lease: the heartbeat of its kubelet (KEP-589).

If heartbeats were written to the Node, each would be an event for every node that watches its peers.
"""

from __future__ import annotations

from netlab.api.client import Client
from netlab.api.coordination_types import Lease, LeaseSpec
from netlab.api.core_types import Node
from netlab.api.errors import ApiError
from netlab.api.meta_types import ObjectMeta, OwnerReference, now_micro
from netlab.api.resources import LEASES, NODE_LEASES, NODES

_DURATION = 40
"""Seconds: upstream's nodeLeaseDurationSeconds. Nothing acts on it; the controller has its own grace period."""


async def renew(client: Client, node: Node) -> None:
    """Renew the node's lease, or create it. Raises `ApiError` and `ApiUnavailableError`."""
    name, moment = node.metadata.name, now_micro()
    try:
        change = {"spec": {"holderIdentity": name, "leaseDurationSeconds": _DURATION, "renewTime": moment}}
        await client.patch(LEASES, name, NODE_LEASES, change)
    except ApiError as error:
        if error.reason != "NotFound":
            raise
        owner = OwnerReference(NODES.api_version, NODES.kind, name, node.metadata.uid)
        lease = Lease(
            metadata=ObjectMeta(name=name, namespace=NODE_LEASES, ownerReferences=[owner]),
            spec=LeaseSpec(holderIdentity=name, leaseDurationSeconds=_DURATION, renewTime=moment),
        )
        await client.create(LEASES, lease)
