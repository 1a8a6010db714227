"""Approves what kubelets ask for to be clients of the API (csrapproving), if a SubjectAccessReview allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from netlab.api.certificate_types import APPROVED, DENIED, KUBELET_CLIENT, CertificateSigningRequest
from netlab.api.resources import SUBJECTACCESSREVIEWS
from netlab.api.review_types import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from netlab.api.server.objects.validation.certificates import parsed
from netlab.controlplane.certificates.controller import RequestController
from netlab.controlplane.certificates.requests import refusal

_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}
"""By the subresource of requests for certificates that one has to be allowed to create."""


class Approver(RequestController):
    """Requests for the certificates of kubelets to approved ones."""

    name = "csrapproving"

    def is_due(self, request: CertificateSigningRequest) -> bool:
        """Whether a kubelet's is not decided yet."""
        is_decided = request.has(APPROVED) or request.has(DENIED)
        return request.spec.signerName == KUBELET_CLIENT and not is_decided and not request.status.certificate

    async def reconcile(self, key: str) -> None:
        """Approve a request if who makes it may have what it asks for."""
        request = self.due(key)
        if request is None:
            return
        # The library is loaded for who asks for a certificate only.
        for subresource in await asyncio.to_thread(lambda: list(permissions(request))):
            if await self._may(request, subresource):
                await self.approve(request, _MESSAGES[subresource])
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
