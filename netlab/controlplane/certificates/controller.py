"""What the controllers of CertificateSigningRequests share: which ones are due, and how one is approved."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import ClassVar

from netlab.api.certificate_types import APPROVED, CertificateSigningRequest
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS, Resource
from netlab.api.stored_kinds import APPROVAL
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller


class RequestController(Controller):
    """A control loop over the requests that are due in it."""

    resource: ClassVar[Resource[CertificateSigningRequest]] = CERTIFICATESIGNINGREQUESTS

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.certificate_requests.on_change(self._changed)

    @abc.abstractmethod
    def is_due(self, request: CertificateSigningRequest) -> bool:
        """Whether there is something to decide."""

    def keys(self) -> Iterable[str]:
        """Every request."""
        return list(self.cluster.certificate_requests.items)

    def due(self, key: str) -> CertificateSigningRequest | None:
        """The request, if it is there and due."""
        request = self.cluster.certificate_requests.items.get(key)
        return request if request is not None and self.is_due(request) else None

    async def approve(self, request: CertificateSigningRequest, message: str) -> None:
        """Approve a request. Raises `ApiError`."""
        condition = Condition(
            type=APPROVED, status="True", reason="AutoApproved", message=message, lastUpdateTime=now()
        )
        request.status.conditions = [*request.status.conditions, condition]
        await unless_gone(self.client.update(CERTIFICATESIGNINGREQUESTS, request, subresource=APPROVAL))

    def _changed(self, _: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and self.is_due(new):
            self.queue.add(new.key)
