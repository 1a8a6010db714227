"""Signs approved requests for certificates with the cluster's authority (pkg/controller/certificates/signer)."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

from netlab.api.certificate_types import APPROVED, DENIED, FAILED, CertificateSigningRequest
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS
from netlab.api.server.access.authority import Authority
from netlab.api.server.objects.validation.certificates import parsed
from netlab.controlplane.certificates.controller import RequestController
from netlab.controlplane.certificates.requests import PURPOSES, refusal
from netlab.controlplane.cluster import Cluster

_LONGEST, _LEAST = 365 * 24 * 3600, 600
"""Seconds that a certificate is good for, at most (--cluster-signing-duration) and at least."""


class Signer(RequestController):
    """CertificateSigningRequests to certificates, for the signers that every cluster has."""

    name = "csrsigning"

    def __init__(self, cluster: Cluster, authority: Path) -> None:
        """`authority` is the directory of the API server's authority."""
        super().__init__(cluster)
        self._authority = authority

    def is_due(self, request: CertificateSigningRequest) -> bool:
        """Whether it is approved, and neither signed nor given up."""
        return (
            request.spec.signerName in PURPOSES
            and request.has(APPROVED)
            and not request.has(DENIED)
            and not request.has(FAILED)
            and not request.status.certificate
        )

    async def reconcile(self, key: str) -> None:
        """Sign a request that is approved, or say why that cannot be."""
        request = self.due(key)
        if request is None:
            return
        # The library is loaded, and keys are used, for who asks for it only.
        await asyncio.to_thread(self._decide, request)
        await unless_gone(self.client.update(CERTIFICATESIGNINGREQUESTS, request, subresource="status"))

    def _decide(self, request: CertificateSigningRequest) -> None:
        spec = request.spec
        asked = parsed(spec.request)
        if why := refusal(asked, spec.signerName, spec.usages):
            condition = Condition(
                type=FAILED, status="True", reason="SignerValidationFailure", message=why, lastUpdateTime=now()
            )
            request.status.conditions = [*request.status.conditions, condition]
            return
        wanted = _LONGEST if spec.expirationSeconds is None else spec.expirationSeconds
        seconds = min(max(wanted, _LEAST), _LONGEST)
        signed = Authority(self._authority).sign_request(asked, spec.usages, seconds)
        request.status.certificate = base64.b64encode(signed).decode("ascii")
