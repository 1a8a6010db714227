"""The Leases of addresses, as a node's speaker sees and writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from netlab.api.client import Client
from netlab.api.coordination_types import Lease, LeaseSpec
from netlab.api.errors import unless_gone
from netlab.api.informer import Informer
from netlab.api.load_balancers import LEASE_LABELS, LEASE_NAMESPACE, lease_name
from netlab.api.meta_types import ObjectMeta, now_micro
from netlab.api.resources import LEASES
from netlab.speaker.election import DURATION, Deed, Record

_SELECTOR = ",".join(f"{name}={value}" for name, value in LEASE_LABELS.items())


class Leases:
    """Follows them while `informer` runs, and calls `changed` when one is not what it was."""

    def __init__(self, client: Client, node: str, changed: Callable[[], None]) -> None:
        self.informer = Informer(client, LEASES, LEASE_NAMESPACE, labels=_SELECTOR)
        self._client = client
        self._node = node
        self._changed = changed
        self._known: dict[str, tuple[Lease, Record]] = {}
        """By name."""
        self.informer.on_change(self._seen)

    def record(self, address: str) -> Record | None:
        """What is known of an address's Lease; None: there is none."""
        known = self._known.get(lease_name(address))
        return known[1] if known else None

    def others(self, addresses: Collection[str]) -> list[tuple[Lease, Record]]:
        """The Leases that are of none of these addresses."""
        names = set(map(lease_name, addresses))
        return [known for name, known in self._known.items() if name not in names]

    async def write(self, address: str, deed: Deed) -> None:
        """Acquire, renew or release the Lease of an address. Raises what the client raises.

        A Lease that another node has written since it was seen here is left to that node (Conflict, AlreadyExists).
        """
        known, moment = self._known.get(lease_name(address)), now_micro()
        if known is None:
            spec = LeaseSpec(self._node, DURATION, moment, moment, leaseTransitions=0)
            meta = ObjectMeta(name=lease_name(address), namespace=LEASE_NAMESPACE, labels=dict(LEASE_LABELS))
            self._note(await self._client.create(LEASES, Lease(metadata=meta, spec=spec)))
            return
        lease, _ = known
        change: dict[str, object] = {
            "holderIdentity": "" if deed == "release" else self._node,
            "leaseDurationSeconds": DURATION,
            "renewTime": moment,
        }
        if deed == "acquire":
            change |= {"acquireTime": moment, "leaseTransitions": (lease.spec.leaseTransitions or 0) + 1}
        patch = {"metadata": {"resourceVersion": lease.metadata.resourceVersion}, "spec": change}
        self._note(await self._client.patch(LEASES, lease.metadata.name, LEASE_NAMESPACE, patch))

    async def remove(self, lease: Lease) -> None:
        """Delete a Lease, unless that is done already. Raises what the client raises."""
        meta = lease.metadata
        await unless_gone(self._client.delete(LEASES, meta.name, meta.namespace, uid=meta.uid))

    def _seen(self, old: Lease | None, new: Lease | None) -> None:
        if new is not None:
            self._note(new)
        elif old is not None:
            self._known.pop(old.metadata.name, None)
        self._changed()

    def _note(self, lease: Lease) -> None:
        known = self._known.get(lease.metadata.name)
        # The watch brings what this node wrote a moment later, and perhaps after what it has written since.
        if known is None or int(known[0].metadata.resourceVersion) < int(lease.metadata.resourceVersion):
            now = asyncio.get_running_loop().time()
            record = Record(lease.spec.holderIdentity or "", lease.spec.leaseDurationSeconds or DURATION, now)
            self._known[lease.metadata.name] = lease, record
