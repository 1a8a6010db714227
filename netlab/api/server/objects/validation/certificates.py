"""CertificateSigningRequests (pkg/apis/certificates/validation)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from netlab.api.certificate_types import APPROVED, DENIED, FAILED, CertificateSigningRequest
from netlab.api.server.objects.problems import Problems
from netlab.api.stored_kinds import APPROVAL, STATUS

if TYPE_CHECKING:
    from cryptography import x509

_USAGES = (
    *("any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment"),
    *("decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel"),
    *("ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime"),
    *("server auth", "signing", "timestamping"),
)
_LEGACY = "kubernetes.io/legacy-unknown"
_SIGNER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[a-z0-9.-]+")
_LEAST_SECONDS = 600
_ONLY_TRUE = (APPROVED, DENIED, FAILED)
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s")


def request(new: CertificateSigningRequest, problems: Problems) -> None:
    """certificates.v1.CertificateSigningRequest."""
    spec = new.spec
    try:
        parsed(spec.request)
    except ValueError as error:
        problems.invalid("spec.request", spec.request, str(error))
    if not spec.usages:
        problems.required("spec.usages")
    for index, usage in enumerate(spec.usages):
        problems.one_of(f"spec.usages[{index}]", usage, _USAGES)
        if usage in spec.usages[:index]:
            problems.duplicate(f"spec.usages[{index}]", usage)
    if spec.signerName == _LEGACY:
        detail = "the legacy signerName is not allowed via this API version"
        problems.invalid("spec.signerName", spec.signerName, detail)
    elif not _SIGNER.fullmatch(spec.signerName):
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        problems.invalid("spec.signerName", spec.signerName, detail)
    if spec.expirationSeconds is not None and spec.expirationSeconds < _LEAST_SECONDS:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        problems.invalid("spec.expirationSeconds", spec.expirationSeconds, detail)


def parsed(encoded: str) -> x509.CertificateSigningRequest:
    """A request as it is in an object. Raises `ValueError`."""
    from cryptography import x509

    try:
        content = base64.b64decode(encoded)
    except binascii.Error:
        raise ValueError("is not base64") from None
    if not content.lstrip().startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    found = x509.load_pem_x509_csr(content)
    if not found.is_signature_valid:
        raise ValueError("its signature is not valid")
    return found


def update(
    new: CertificateSigningRequest, old: CertificateSigningRequest, subresource: str, problems: Problems
) -> None:
    """What of a request's status may change: its approval and its certificate, each where it is decided."""
    _conditions(new, problems)
    path = "status.conditions"
    for kind in _ONLY_TRUE:
        before, after = ([each for each in obj.status.conditions if each.type == kind] for obj in (old, new))
        if len(after) < len(before):
            problems.forbidden(path, f'updates may not remove a condition of type "{kind}"')
        elif kind != FAILED and subresource != APPROVAL and after != before:
            what = "add" if len(after) > len(before) else "modify"
            problems.forbidden(path, f'updates may not {what} a condition of type "{kind}"')
    if new.status.certificate == old.status.certificate:
        return
    path = "status.certificate"
    if subresource != STATUS:
        problems.forbidden(path, "updates may not set certificate content")
    elif old.status.certificate:
        problems.forbidden(path, "updates may not modify existing certificate content")
    elif wrong := _wrong_with_certificate(new.status.certificate):
        problems.invalid(path, "<certificate data>", wrong)


def _conditions(new: CertificateSigningRequest, problems: Problems) -> None:
    seen: set[str] = set()
    for index, each in enumerate(new.status.conditions):
        path = f"status.conditions[{index}]"
        if not each.type:
            problems.required(f"{path}.type")
        if not each.status:
            problems.required(f"{path}.status")
        else:
            allowed = ("True",) if each.type in _ONLY_TRUE else ("False", "True", "Unknown")
            problems.one_of(f"{path}.status", each.status, allowed)
        if each.type in seen:
            problems.duplicate(f"{path}.type", each.type)
        seen.add(each.type)
    if {APPROVED, DENIED} <= seen:
        detail = "Approved and Denied conditions are mutually exclusive"
        problems.invalid("status.conditions", DENIED, detail)


def _wrong_with_certificate(encoded: str) -> str:
    from cryptography import x509

    try:
        content = base64.b64decode(encoded)
    except binascii.Error:
        return "is not base64"
    kinds = [match.decode() for match in _PEM.findall(content)]
    other = next((kind for kind in kinds if kind != "CERTIFICATE"), None)
    if other is not None:
        return f'only CERTIFICATE PEM blocks are allowed, found "{other}"'
    if not kinds:
        return "must contain at least one CERTIFICATE PEM block"
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        return str(error)
    return ""
