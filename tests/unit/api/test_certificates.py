"""Requests for certificates: what is one, who decides about it, and what is signed."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.responses import Response

from netlab.api.certificate_types import (
    CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    CertificateSigningRequest,
    CertificateSigningRequestSpec,
)
from netlab.api.errors import ApiError
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS, CLUSTERROLEBINDINGS, CLUSTERROLES, SERVICEACCOUNTS
from netlab.api.server.access import issuing, signers
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.authorization import Authorizer
from netlab.api.server.access.tokens import ISSUER, Tokens
from netlab.api.server.identity import OWNER, User
from netlab.api.server.objects.validation.certificates import parsed
from netlab.api.server.registry.generic import Registry
from netlab.controlplane.certificates.approving import permissions
from netlab.controlplane.certificates.requests import refusal
from tests.unit.api.cluster import create, refused, update

REQUESTS: Any = CERTIFICATESIGNINGREQUESTS
USAGES = ["digital signature", "key encipherment", "client auth"]
APPROVED = {"type": "Approved", "status": "True"}


def asked(name: str = "jane", groups: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> str:
    """A request as it is in an object."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


def manifest(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "r"}, "spec": {"request": asked(), "signerName": CLIENT, "usages": USAGES} | spec}


def certificate(tmp_path: Path) -> str:
    return base64.b64encode(Authority(tmp_path / "other").certificate).decode()


def test_a_request_tells_who_asks_and_does_not_change(registry: Registry) -> None:
    user = User("jane", ("system:authenticated",), "7", {"k": ("v",)})
    sent = manifest(username="root", groups=["system:masters"], expirationSeconds=3600)
    made = registry.commit(registry.draft_of_new(REQUESTS, "", sent, user=user))
    spec = json.loads(made.raw)["spec"]
    assert (spec["username"], spec["uid"], spec["groups"]) == ("jane", "7", ["system:authenticated"])
    assert spec["extra"] == {"k": ["v"]}
    changed = json.loads(made.raw)
    changed["spec"]["usages"] = ["any"]
    assert update(registry, REQUESTS, changed)["spec"] == spec


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"request": "AA=="}, ["spec.request", "PEM block type must be CERTIFICATE REQUEST"]),
        ({"request": base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nAA==").decode()}, ["spec.request"]),
        ({"usages": []}, ["spec.usages: Required value"]),
        ({"usages": ["client auth", "client auth"]}, ["spec.usages[1]: Duplicate value"]),
        ({"usages": ["shoes"]}, ["spec.usages[0]: Unsupported value"]),
        ({"signerName": "mine"}, ["must be a fully qualified domain and path of the form 'example.com/signer-name'"]),
        ({"signerName": "kubernetes.io/legacy-unknown"}, ["the legacy signerName is not allowed"]),
        ({"expirationSeconds": 599}, ["may not specify a duration less than 600 seconds (10 minutes)"]),
    ],
)
def test_what_is_no_request(registry: Registry, spec: dict[str, Any], texts: list[str]) -> None:
    with refused(422, *texts):
        create(registry, REQUESTS, manifest(**spec))


def test_each_part_of_the_status_is_decided_in_its_own_place(registry: Registry, tmp_path: Path) -> None:
    made = create(registry, REQUESTS, manifest())
    signed = certificate(tmp_path)
    with refused(422, 'updates may not add a condition of type "Approved"'):
        update(registry, REQUESTS, made | {"status": {"conditions": [APPROVED]}}, "status")
    made = update(registry, REQUESTS, made | {"status": {"conditions": [APPROVED], "certificate": signed}}, "approval")
    assert made["status"] == {"conditions": [APPROVED]}
    with refused(422, 'updates may not remove a condition of type "Approved"'):
        update(registry, REQUESTS, made | {"status": {"conditions": []}}, "approval")
    with refused(422, "Approved and Denied conditions are mutually exclusive"):
        denied = {"type": "Denied", "status": "True"}
        update(registry, REQUESTS, made | {"status": {"conditions": [APPROVED, denied]}}, "approval")
    with refused(422, 'status.conditions[0].status: Unsupported value: "False": supported values: "True"'):
        update(registry, REQUESTS, made | {"status": {"conditions": [APPROVED | {"status": "False"}]}}, "approval")
    with refused(422, "must contain at least one CERTIFICATE PEM block"):
        update(registry, REQUESTS, made | {"status": made["status"] | {"certificate": "AA=="}}, "status")
    made = update(registry, REQUESTS, made | {"status": made["status"] | {"certificate": signed}}, "status")
    with refused(422, "updates may not modify existing certificate content"):
        update(registry, REQUESTS, made | {"status": {"conditions": [APPROVED]}}, "status")


def _decides(registry: Registry, user: User, obj: dict[str, Any], subresource: str = "") -> str:
    """Why a user may not write an object; "" if that is allowed."""
    stored = registry.store.get(REQUESTS, "", "r")
    if stored is None:
        draft = registry.draft_of_new(REQUESTS, "", obj, user=user)
    else:
        draft = registry.draft_of_changed(REQUESTS, stored, obj, subresource, user=user)
    try:
        signers.check(Authorizer(registry), user, draft)
    except ApiError as error:
        return str(error).partition("forbidden: ")[2]
    registry.commit(draft)
    return ""


def test_who_decides_has_to_be_allowed_to_by_the_signers_name(registry: Registry, tmp_path: Path) -> None:
    for verb, names in (("approve", ["example.org/*"]), ("sign", ["example.org/s"])):
        rule = {"verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names}
        create(registry, CLUSTERROLES, {"metadata": {"name": verb}, "rules": [rule]})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": verb}
        subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": verb}
        binding = {"metadata": {"name": verb}, "roleRef": reference, "subjects": [subject]}
        create(registry, CLUSTERROLEBINDINGS, binding)
    approver, signer = User("approve"), User("sign")
    sent = manifest(request=asked(groups=("system:masters",)))
    assert _decides(registry, OWNER, sent) == f"use of {CLIENT} signer with system:masters group is not allowed"
    assert _decides(registry, User("jane"), manifest(signerName="example.org/s")) == ""
    present = registry.get(REQUESTS, "", "r").decode()
    present["status"] = {"conditions": [APPROVED]}
    why = 'user not permitted to approve requests with signerName "example.org/s"'
    assert _decides(registry, signer, json.loads(json.dumps(present)), "approval") == why
    assert _decides(registry, approver, json.loads(json.dumps(present)), "approval") == ""
    present = registry.get(REQUESTS, "", "r").decode()
    present["status"]["certificate"] = certificate(tmp_path)
    why = 'user not permitted to sign requests with signerName "example.org/s"'
    assert _decides(registry, approver, json.loads(json.dumps(present)), "status") == why
    assert _decides(registry, signer, json.loads(json.dumps(present)), "status") == ""


NODE, NODES = "system:node:n1", ("system:nodes",)
SERVING = ["digital signature", "server auth"]
OF_NODE = ["digital signature", "client auth"]


@pytest.mark.parametrize(
    ("signer", "usages", "request_", "why"),
    [
        (CLIENT, USAGES, asked(), ""),
        (CLIENT, ["digital signature"], asked(), "missing required usage for client certificate: client auth"),
        (CLIENT, [*USAGES, "cert sign"], asked(), "invalid usage for client certificate: cert sign"),
        (KUBELET_CLIENT, OF_NODE, asked(NODE, NODES), ""),
        (KUBELET_CLIENT, OF_NODE, asked(NODE), "subject organization is not system:nodes"),
        (KUBELET_CLIENT, OF_NODE, asked("n1", NODES), "subject common name does not begin with system:node:"),
        (KUBELET_CLIENT, OF_NODE, asked(NODE, NODES, ("n1",)), "subjectAltNames are not allowed"),
        (KUBELET_CLIENT, SERVING, asked(NODE, NODES), "usages did not match digital signature, client auth"),
        (KUBELET_SERVING, SERVING, asked(NODE, NODES, ("n1",)), ""),
        (KUBELET_SERVING, SERVING, asked(NODE, NODES), "DNS or IP subjectAltName is required"),
    ],
)
def test_what_a_signer_signs(signer: str, usages: list[str], request_: str, why: str) -> None:
    said = refusal(parsed(request_), signer, usages)
    assert said.startswith(why) if why else said == ""


def test_what_is_signed_is_what_was_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    request = parsed(asked(NODE, NODES, ("n1.example.org",)))
    made = x509.load_pem_x509_certificate(authority.sign_request(request, SERVING, 3600))
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    assert made.subject == request.subject
    assert made.public_key() == request.public_key()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.example.org"]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = made.not_valid_after_utc - made.not_valid_before_utc
    assert life.total_seconds() == 3600 + 300


def test_a_token_is_verified_by_what_is_published(registry: Registry, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    endpoints = {route.path: route.endpoint for route in issuing.routes(authority, "10.0.0.1:6443")}

    def get(path: str) -> Response:
        answer: Response = asyncio.run(endpoints[path](None))
        return answer

    found = json.loads(bytes(get(issuing.DISCOVERY).body))
    assert (found["issuer"], found["jwks_uri"]) == (ISSUER, "https://10.0.0.1:6443/openid/v1/jwks")
    answer = get("/openid/v1/jwks")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    (key,) = json.loads(bytes(answer.body))["keys"]
    create(registry, SERVICEACCOUNTS, {"metadata": {"name": "web"}})
    accounts: Any = SERVICEACCOUNTS
    account = registry.get(accounts, "default", "web")
    token, _ = Tokens(authority, registry.store).sign(account, ("other",), 600, None)
    head, payload, signature = token.split(".")

    def number(text: str) -> int:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=="))

    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    assert (header["kid"], header["alg"]) == (key["kid"], key["alg"])
    sealed = base64.urlsafe_b64decode(signature + "==")
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()).public_key()
    encoded = encode_dss_signature(int.from_bytes(sealed[:32]), int.from_bytes(sealed[32:]))
    public.verify(encoded, f"{head}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))


_NODES = ("system:nodes",)


@pytest.mark.parametrize(
    ("request_", "signer", "username", "wanted"),
    [
        (asked("system:node:a", _NODES), KUBELET_CLIENT, "system:node:a", ["selfnodeclient", "nodeclient"]),
        (asked("system:node:a", _NODES), KUBELET_CLIENT, "system:bootstrap:x", ["nodeclient"]),
        (asked("system:node:a", _NODES, ("a.example.com",)), KUBELET_CLIENT, "system:node:a", []),
        (asked("jane", _NODES), KUBELET_CLIENT, "jane", []),
        (asked("system:node:a"), KUBELET_CLIENT, "system:node:a", []),
        (asked("system:node:a", _NODES, ("a",)), KUBELET_SERVING, "system:node:a", []),
        (asked("system:node:a", _NODES), CLIENT, "system:node:a", []),
    ],
)
def test_what_is_needed_for_a_request_to_be_approved(
    request_: str, signer: str, username: str, wanted: list[str]
) -> None:
    spec = CertificateSigningRequestSpec(request=request_, signerName=signer, username=username, usages=USAGES)
    assert list(permissions(CertificateSigningRequest(spec=spec))) == wanted
