"""Who may approve requests for certificates, and who may sign them: what a signer is, is asked for by name.

The admission plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction of upstream.
"""

from __future__ import annotations

from typing import Any

from netlab.api.certificate_types import APPROVED, CLIENT, DENIED, FAILED, GROUP
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS
from netlab.api.server import refusals
from netlab.api.server.access.authorization import Authorizer
from netlab.api.server.access.rbac import Action
from netlab.api.server.identity import MASTERS, User
from netlab.api.server.objects.validation.certificates import parsed
from netlab.api.server.registry.generic import Draft
from netlab.api.stored_kinds import APPROVAL, STATUS


def check(authorizer: Authorizer, user: User, draft: Draft) -> None:
    """Raise `ApiError` (403) if a user may not decide what a draft decides about a request."""
    if draft.resource is not CERTIFICATESIGNINGREQUESTS:
        return
    spec, subresource = draft.obj["spec"], draft.attributes.subresource
    signer: str = spec["signerName"]
    name = draft.attributes.name
    if draft.before is None:
        if signer == CLIENT and MASTERS in _organizations(spec["request"]):
            why = f"use of {CLIENT} signer with {MASTERS} group is not allowed"
            raise refusals.forbidden(draft.resource, name, why)
        return
    before = draft.attributes.old or {}
    if subresource == APPROVAL and _of(draft.obj, APPROVED, DENIED) != _of(before, APPROVED, DENIED):
        verb, what = "approve", "approve requests with"
    elif subresource == STATUS and (
        draft.obj.get("status", {}).get("certificate") != before.get("status", {}).get("certificate")
        or _of(draft.obj, FAILED) != _of(before, FAILED)
    ):
        verb, what = "sign", "sign requests with"
    else:
        return
    domain = f"{signer.partition('/')[0]}/*"
    if not any(
        authorizer.decide(user, Action(verb, group=GROUP, resource="signers", name=each)).allowed
        for each in (signer, domain)
    ):
        raise refusals.forbidden(draft.resource, name, f'user not permitted to {what} signerName "{signer}"')


def _of(request: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    return [each for each in request.get("status", {}).get("conditions") or () if each.get("type") in kinds]


def _organizations(encoded: str) -> list[str]:
    from cryptography.x509.oid import NameOID

    subject = parsed(encoded).subject
    return [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
