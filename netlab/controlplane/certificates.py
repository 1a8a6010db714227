"""Approves kubelets' requests for certificates, and signs what is approved with the cluster's authority
(pkg/controller/certificates).
"""

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
from netlab.api.core_types import Node
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS
from netlab.api.server.access.authority import Authority
from netlab.api.server.objects.validation.certificates import parsed
from netlab.api.stored_kinds import APPROVAL
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller

if TYPE_CHECKING:
    from cryptography import x509

_LONGEST, _LEAST = 365 * 24 * 3600, 600
"""Seconds that a certificate is good for, at most (--cluster-signing-duration) and at least."""

_NODES, _NODE = "system:nodes", "system:node:"
_OPTIONAL = {"digital signature", "key encipherment"}
_PURPOSES = {CLIENT: "client auth", KUBELET_CLIENT: "client auth", KUBELET_SERVING: "server auth"}


class Approver(Controller):
    """Approves what kubelets ask for to serve with, if they ask for themselves.

    Upstream leaves that to a controller of each provider, which knows what a node's addresses are. Here the Node says.
    """

    name = "csrapproving"
    resource = CERTIFICATESIGNINGREQUESTS

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.certificate_requests.on_change(self._changed)
        cluster.nodes.on_change(self._node_changed)

    def keys(self) -> Iterable[str]:
        """Every request."""
        return list(self.cluster.certificate_requests.items)

    async def reconcile(self, key: str) -> None:
        """Approve a request of a kubelet about its own node."""
        request = self.cluster.certificate_requests.items.get(key)
        if request is None or not _is_pending(request):
            return
        node = self.cluster.nodes.items.get(request.spec.username.removeprefix(_NODE))
        if node is None or not await asyncio.to_thread(is_of_node, request, node):
            return
        condition = Condition(
            type=APPROVED,
            status="True",
            reason="AutoApproved",
            message="a kubelet's, for the names and addresses of its own Node",
            lastUpdateTime=now(),
        )
        request.status.conditions = [*request.status.conditions, condition]
        await unless_gone(self.client.update(CERTIFICATESIGNINGREQUESTS, request, subresource=APPROVAL))

    def _changed(self, _: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and _is_pending(new):
            self.queue.add(new.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and old.status.addresses == new.status.addresses):
            return
        for key, request in self.cluster.certificate_requests.items.items():
            if _is_pending(request) and request.spec.username == f"{_NODE}{new.metadata.name}":
                self.queue.add(key)


def is_of_node(request: CertificateSigningRequest, node: Node) -> bool:
    """Whether a node's kubelet asks for a certificate to serve with, and for nothing that is not its Node's."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    spec, asked = request.spec, parsed(request.spec.request)
    names = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    is_itself = names == [spec.username] == [f"{_NODE}{node.metadata.name}"] and _NODES in spec.groups
    if not is_itself or refusal(asked, spec.signerName, spec.usages):
        return False
    found = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = {str(each) for kind in (x509.DNSName, x509.IPAddress) for each in found.get_values_for_type(kind)}
    return wanted <= {node.metadata.name, *(each.address for each in node.status.addresses)}


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


def _is_pending(request: CertificateSigningRequest) -> bool:
    return request.spec.signerName == KUBELET_SERVING and not request.has(APPROVED) and not request.has(DENIED)


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
