"""Signs approved requests for certificates with the cluster's authority (pkg/controller/certificates/signer)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.api.certificate_types import (
    APPROVED,
    CLIENT,
    DENIED,
    FAILED,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    CertificateSigningRequest,
)
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS
from netlab.api.server.access.authority import Authority
from netlab.api.server.objects.validation.certificates import parsed
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller

if TYPE_CHECKING:
    from cryptography import x509

_LONGEST, _LEAST = 365 * 24 * 3600, 600
"""Seconds that a certificate is good for, at most (--cluster-signing-duration) and at least."""

_NODES, _NODE = "system:nodes", "system:node:"
_OPTIONAL = {"digital signature", "key encipherment"}
_PURPOSES = {CLIENT: "client auth", KUBELET_CLIENT: "client auth", KUBELET_SERVING: "server auth"}


class Signer(Controller):
    """CertificateSigningRequests to certificates, for the signers that every cluster has."""

    name = "csrsigning"
    resource = CERTIFICATESIGNINGREQUESTS

    def __init__(self, cluster: Cluster, authority: Path) -> None:
        """`authority` is the directory of the API server's authority."""
        super().__init__(cluster)
        self._authority = authority
        cluster.certificate_requests.on_change(self._changed)

    def keys(self) -> Iterable[str]:
        """Every request."""
        return list(self.cluster.certificate_requests.items)

    async def reconcile(self, key: str) -> None:
        """Sign a request that is approved, or say why that cannot be."""
        request = self.cluster.certificate_requests.items.get(key)
        if request is None or not _is_due(request):
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

    def _changed(self, _: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and _is_due(new):
            self.queue.add(new.key)


def _is_due(request: CertificateSigningRequest) -> bool:
    return (
        request.spec.signerName in _PURPOSES
        and request.has(APPROVED)
        and not request.has(DENIED)
        and not request.has(FAILED)
        and not request.status.certificate
    )


def refusal(asked: x509.CertificateSigningRequest, signer: str, usages: Iterable[str]) -> str:
    """Why a signer does not sign a request; "" if it does (pkg/apis/certificates/v1/helpers.go)."""
    purpose, wanted = _PURPOSES[signer], set(usages)
    if signer == CLIENT:
        if other := sorted(wanted - {purpose} - _OPTIONAL):
            return f"invalid usage for client certificate: {other[0]}"
        return "" if purpose in wanted else f"missing required usage for client certificate: {purpose}"
    if wanted not in ({purpose, "digital signature"}, {purpose, "digital signature", "key encipherment"}):
        return f"usages did not match digital signature, {purpose} and, if asked for, key encipherment"
    return _wrong_with_subject(asked, signer)


def _wrong_with_subject(asked: x509.CertificateSigningRequest, signer: str) -> str:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def values(kind: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in asked.subject.get_attributes_for_oid(kind)]

    if values(NameOID.ORGANIZATION_NAME) != [_NODES]:
        return f"subject organization is not {_NODES}"
    if not any(each.startswith(_NODE) and each != _NODE for each in values(NameOID.COMMON_NAME)):
        return f"subject common name does not begin with {_NODE}"
    try:
        found = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "DNS or IP subjectAltName is required" if signer == KUBELET_SERVING else ""
    if signer == KUBELET_CLIENT:
        return "subjectAltNames are not allowed"
    if any(not isinstance(each, x509.DNSName | x509.IPAddress) for each in found):
        return "only DNS and IP subjectAltNames are allowed"
    return ""
