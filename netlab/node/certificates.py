"""Certificates that a node asks its cluster for (the TLS bootstrap of kubelets, and CertificateSigningRequests).

The cluster's signers sign what has been approved. Upstream's controller manager approves clients' certificates of
nodes by itself, and never those with which kubelets serve.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netlab.api.certificate_types import (
    APPROVED,
    CLIENT,
    DENIED,
    FAILED,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    CertificateSigningRequest,
    CertificateSigningRequestSpec,
)
from netlab.api.client import Client
from netlab.api.errors import ApiError
from netlab.api.meta_types import Condition, ObjectMeta, now
from netlab.api.resources import CERTIFICATESIGNINGREQUESTS
from netlab.api.stored_kinds import APPROVAL
from netlab.errors import NetlabError, TimedOutError

if TYPE_CHECKING:
    from cryptography import x509

_POLL, _SLOWER, _SLOWEST = 0.02, 1.5, 1.0
"""Seconds between two looks at a request: at first, by how much longer each next one, and at most."""

_PURPOSES = {CLIENT: "client auth", KUBELET_CLIENT: "client auth", KUBELET_SERVING: "server auth"}


@dataclass(frozen=True)
class Subject:
    """Who a certificate is of: a user and its groups (CN and O), and for a server its names and addresses."""

    user: str
    groups: Sequence[str] = ()
    names: Sequence[str] = ()

    @classmethod
    def of_node(cls, name: str, names: Sequence[str] = ()) -> Subject:
        """Of a node's kubelet."""
        return cls(f"system:node:{name}", ("system:nodes",), names)


@dataclass(frozen=True)
class Certified:
    """A certificate, with those of its authorities that the signer added, and its key: in PEM form."""

    certificate: bytes
    key: bytes = field(repr=False)


async def obtain(client: Client, approver: Client | None, signer: str, subject: Subject, patience: float) -> Certified:
    """Ask a signer for a certificate as `client`, and approve that as `approver` if it may; None: others will.

    Raises `TimedOutError` when nobody has approved or signed it within `patience` seconds, `NetlabError` when it is
    refused, and what `Client` raises.
    """
    key, asked = _request(subject)
    usages = ["digital signature", _PURPOSES[signer]]
    request = CertificateSigningRequest(
        metadata=ObjectMeta(generateName="csr-"),
        spec=CertificateSigningRequestSpec(
            request=base64.b64encode(asked).decode("ascii"), signerName=signer, usages=usages
        ),
    )
    made = await client.create(CERTIFICATESIGNINGREQUESTS, request)
    if approver is not None:
        await _approve(approver, made)
    return Certified(await _signed(client, made.metadata.name, patience), key)


def _request(subject: Subject) -> tuple[bytes, bytes]:
    """A new key, and a request of PKCS #10 that it has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    name = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, subject.user)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if subject.names:
        listed = [_general_name(each) for each in subject.names]
        builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    asked = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), asked


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


async def _approve(client: Client, request: CertificateSigningRequest) -> None:
    request.status.conditions = [
        Condition(
            type=APPROVED,
            status="True",
            reason="NetlabNodeJoin",
            message="approved by the user who joined the node",
            lastUpdateTime=now(),
        )
    ]
    try:
        await client.update(CERTIFICATESIGNINGREQUESTS, request, subresource=APPROVAL)
    except ApiError as error:
        # Others may, or have already: a controller, or a person with `kubectl certificate approve`.
        if error.reason not in ("Forbidden", "Conflict"):
            raise


async def _signed(client: Client, name: str, patience: float) -> bytes:
    deadline, pause = time.monotonic() + patience, _POLL
    while True:
        request = await client.get(CERTIFICATESIGNINGREQUESTS, name)
        for kind in (DENIED, FAILED):
            if request.has(kind):
                why = next(each.message for each in request.status.conditions if each.type == kind)
                raise NetlabError(f"certificate request {name}: {kind.lower()}: {why or 'no reason given'}")
        if request.status.certificate:
            return base64.b64decode(request.status.certificate)
        if time.monotonic() > deadline:
            lacks = "signed it" if request.has(APPROVED) else f"approved it: `kubectl certificate approve {name}`"
            raise TimedOutError(f"certificate request {name}: nobody has {lacks} within {patience:.0f} s")
        await asyncio.sleep(pause)
        pause = min(pause * _SLOWER, _SLOWEST)
