"""Approves what kubelets ask for to be clients of the API (csrapproving), if a SubjectAccessReview allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from netlab.api.certificate_types import APPROVED, DENIED, KUBELET_CLIENT, CertificateSigningRequest
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS, SUBJECTACCESSREVIEWS
from netlab.api.review_types import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from netlab.api.server.objects.validation.certificates import parsed
from netlab.api.stored_kinds import APPROVAL
from netlab.controlplane.certificates.requests import refusal
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller

_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}
"""By the subresource of requests for certificates that one has to be allowed to create."""


class Approver(Controller):
    """Requests for the certificates of kubelets to approved ones."""

    name = "csrapproving"
    resource = CERTIFICATESIGNINGREQUESTS

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.certificate_requests.on_change(self._changed)

    def keys(self) -> Iterable[str]:
        """Every request."""
        return list(self.cluster.certificate_requests.items)

    async def reconcile(self, key: str) -> None:
        """Approve a request if who makes it may have what it asks for."""
        request = self.cluster.certificate_requests.items.get(key)
        if request is None or not _is_due(request):
            return
        # The library is loaded for who asks for a certificate only.
        for subresource in await asyncio.to_thread(lambda: list(permissions(request))):
            if await self._may(request, subresource):
                condition = Condition(
                    type=APPROVED,
                    status="True",
                    reason="AutoApproved",
                    message=_MESSAGES[subresource],
                    lastUpdateTime=now(),
                )
                request.status.conditions = [*request.status.conditions, condition]
                await unless_gone(self.client.update(CERTIFICATESIGNINGREQUESTS, request, subresource=APPROVAL))
                return

    async def _may(self, request: CertificateSigningRequest, subresource: str) -> bool:
        spec = request.spec
        wanted = ResourceAttributes(
            group="certificates.k8s.io",
            resource="certificatesigningrequests",
            verb="create",
            subresource=subresource,
            version="*",
        )
        asked = SubjectAccessReviewSpec(
            user=spec.username, uid=spec.uid, groups=spec.groups, extra=spec.extra, resourceAttributes=wanted
        )
        answer = await self.client.create(SUBJECTACCESSREVIEWS, SubjectAccessReview(spec=asked))
        return answer.status.allowed

    def _changed(self, _: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and _is_due(new):
            self.queue.add(new.key)


def _is_due(request: CertificateSigningRequest) -> bool:
    is_decided = request.has(APPROVED) or request.has(DENIED)
    return request.spec.signerName == KUBELET_CLIENT and not is_decided and not request.status.certificate


def permissions(request: CertificateSigningRequest) -> Iterator[str]:
    """Of which one is enough for a request of a kubelet's certificate to be approved; none for one that is no such."""
    from cryptography.x509.oid import NameOID

    asked = parsed(request.spec.request)
    if request.spec.signerName != KUBELET_CLIENT or refusal(asked, request.spec.signerName, request.spec.usages):
        return
    names = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names == [request.spec.username]:
        yield "selfnodeclient"
    yield "nodeclient"
