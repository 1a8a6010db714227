"""certificates.k8s.io/v1, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Condition, Object, Struct

GROUP = "certificates.k8s.io"

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
"""The signers that a cluster has: of clients of the API, of kubelets as such, and of kubelets as servers."""

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"


class CertificateSigningRequestSpec(Struct):
    """certificates.v1.CertificateSigningRequestSpec; who asks (username to extra) the server writes."""

    request: str
    """A PKCS #10 request in PEM form, in base64."""
    signerName: str
    expirationSeconds: int | None = None
    usages: list[str] = []
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class CertificateSigningRequestStatus(Struct):
    """certificates.v1.CertificateSigningRequestStatus; certificate is in PEM form, in base64."""

    conditions: list[Condition] = []
    certificate: str = ""


class CertificateSigningRequest(Object):
    """certificates.v1.CertificateSigningRequest."""

    spec: CertificateSigningRequestSpec = msgspec.field(
        default_factory=lambda: CertificateSigningRequestSpec(request="", signerName="")
    )
    status: CertificateSigningRequestStatus = msgspec.field(default_factory=CertificateSigningRequestStatus)

    def has(self, kind: str) -> bool:
        """Whether a condition is there and true."""
        return any(each.type == kind and each.status == "True" for each in self.status.conditions)
