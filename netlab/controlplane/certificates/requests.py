"""What may be asked of the signers that every cluster has (pkg/apis/certificates/helpers.go)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from netlab.api.certificate_types import CLIENT, KUBELET_CLIENT, KUBELET_SERVING

if TYPE_CHECKING:
    from cryptography import x509

PURPOSES = {CLIENT: "client auth", KUBELET_CLIENT: "client auth", KUBELET_SERVING: "server auth"}
"""What the certificates of each signer are for."""

NODES, NODE = "system:nodes", "system:node:"
_OPTIONAL = {"digital signature", "key encipherment"}


def refusal(asked: x509.CertificateSigningRequest, signer: str, usages: Iterable[str]) -> str:
    """Why a signer does not sign a request; "" if it does."""
    purpose, wanted = PURPOSES[signer], set(usages)
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

    if values(NameOID.ORGANIZATION_NAME) != [NODES]:
        return f"subject organization is not {NODES}"
    if not any(each.startswith(NODE) and each != NODE for each in values(NameOID.COMMON_NAME)):
        return f"subject common name does not begin with {NODE}"
    try:
        found = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "DNS or IP subjectAltName is required" if signer == KUBELET_SERVING else ""
    if signer == KUBELET_CLIENT:
        return "subjectAltNames are not allowed"
    if any(not isinstance(each, x509.DNSName | x509.IPAddress) for each in found):
        return "only DNS and IP subjectAltNames are allowed"
    return ""
