"""Which requests for certificates of kubelets are approved without anybody's doing."""

from __future__ import annotations

import base64

import pytest

from netlab.api.certificate_types import KUBELET_SERVING, CertificateSigningRequest, CertificateSigningRequestSpec
from netlab.api.core_types import Node, NodeAddress, NodeStatus
from netlab.api.meta_types import ObjectMeta
from netlab.controlplane.certificates.serving import is_of_node
from netlab.node.certificates import Subject, _request

NODE = Node(
    metadata=ObjectMeta(name="node-1"),
    status=NodeStatus(
        addresses=[NodeAddress(type="InternalIP", address=each) for each in ("192.0.2.1", "2001:db8::1")]
    ),
)
ITSELF = Subject.of_node("node-1", ("node-1", "192.0.2.1", "2001:db8::1"))


def asked(
    subject: Subject,
    user: str = "system:node:node-1",
    groups: tuple[str, ...] = ("system:nodes",),
    usage: str = "server",
) -> CertificateSigningRequest:
    _, request = _request(subject)
    spec = CertificateSigningRequestSpec(
        request=base64.b64encode(request).decode(),
        signerName=KUBELET_SERVING,
        usages=["digital signature", f"{usage} auth"],
        username=user,
        groups=list(groups),
    )
    return CertificateSigningRequest(metadata=ObjectMeta(name="csr-1"), spec=spec)


@pytest.mark.parametrize(
    ("request_of", "approved"),
    [
        pytest.param(asked(ITSELF), True, id="all that its Node has"),
        pytest.param(asked(Subject.of_node("node-1", ("192.0.2.1",))), True, id="less than that"),
        pytest.param(asked(Subject.of_node("node-1", ("node-1", "192.0.2.2"))), False, id="another's address"),
        pytest.param(asked(Subject.of_node("node-1", ("kubernetes.default",))), False, id="another's name"),
        pytest.param(asked(Subject.of_node("node-1")), False, id="no name at all"),
        pytest.param(asked(Subject.of_node("node-2", ("192.0.2.1",))), False, id="another node"),
        pytest.param(asked(ITSELF, user="system:node:node-2"), False, id="asked by another node"),
        pytest.param(asked(ITSELF, user="alice"), False, id="asked by anybody"),
        pytest.param(asked(ITSELF, groups=("developers",)), False, id="asked by no node"),
        pytest.param(asked(ITSELF, usage="client"), False, id="for a client"),
        pytest.param(asked(Subject("system:node:node-1", (), ("node-1",))), False, id="not in the nodes' group"),
    ],
)
def test_a_kubelet_is_itself_and_no_more(request_of: CertificateSigningRequest, approved: bool) -> None:
    assert is_of_node(request_of, NODE) is approved
