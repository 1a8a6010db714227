"""Approves what kubelets ask for to serve with."""

from __future__ import annotations

import asyncio

from netlab.api.certificate_types import APPROVED, DENIED, KUBELET_SERVING, CertificateSigningRequest
from netlab.api.core_types import Node
from netlab.api.server.objects.validation.certificates import parsed
from netlab.controlplane.certificates.controller import RequestController
from netlab.controlplane.certificates.requests import NODE, NODES, refusal
from netlab.controlplane.cluster import Cluster


class ServingApprover(RequestController):
    """Approves what kubelets ask for to serve with, if they ask for themselves.

    Upstream leaves that to a controller of each provider, which knows what a node's addresses are. Here the Node says.
    """

    name = "kubelet-serving-csrapproving"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.nodes.on_change(self._node_changed)

    def is_due(self, request: CertificateSigningRequest) -> bool:
        """Whether a kubelet's is not decided yet."""
        return request.spec.signerName == KUBELET_SERVING and not request.has(APPROVED) and not request.has(DENIED)

    async def reconcile(self, key: str) -> None:
        """Approve a request of a kubelet about its own node."""
        request = self.due(key)
        if request is None:
            return
        node = self.cluster.nodes.items.get(request.spec.username.removeprefix(NODE))
        if node is None or not await asyncio.to_thread(is_of_node, request, node):
            return
        await self.approve(request, "a kubelet's, for the names and addresses of its own Node")

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and old.status.addresses == new.status.addresses):
            return
        for key, request in self.cluster.certificate_requests.items.items():
            if self.is_due(request) and request.spec.username == f"{NODE}{new.metadata.name}":
                self.queue.add(key)


def is_of_node(request: CertificateSigningRequest, node: Node) -> bool:
    """Whether a node's kubelet asks for a certificate to serve with, and for nothing that is not its Node's."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    spec, asked = request.spec, parsed(request.spec.request)
    names = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    is_itself = names == [spec.username] == [f"{NODE}{node.metadata.name}"] and NODES in spec.groups
    if not is_itself or refusal(asked, spec.signerName, spec.usages):
        return False
    found = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = {str(each) for kind in (x509.DNSName, x509.IPAddress) for each in found.get_values_for_type(kind)}
    return wanted <= {node.metadata.name, *(each.address for each in node.status.addresses)}
