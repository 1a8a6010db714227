"""The certificate with which a kubelet serves: the cluster's, or signed by itself as upstream's without one."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import ssl
from collections.abc import Sequence

from netlab.api.certificate_types import KUBELET_SERVING
from netlab.api.serving.secure import load_identity
from netlab.errors import NetlabError
from netlab.node.certificates import Certified, Subject, obtain
from netlab.node.context import NodeContext

_PATIENCE, _RETRY = 30.0, 1.0
"""Seconds in which a certificate is approved and signed, and before it is asked for again."""

log = logging.getLogger(__name__)


async def serving_context(node: NodeContext, client_ca: str) -> ssl.SSLContext:
    """TLS for the kubelet of a node, to which clients may present a certificate of the cluster's authority (PEM).

    Those without one need a token.
    A lab's kubelet asks the cluster for its certificate, until it has one. That of a node which has joined another
    cluster has one already; if the cluster has signed none it signs its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    # A session that is resumed would outlive its certificate.
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    serving = node.config.serving
    if serving is None:
        certified = await _asked_for(node)
        load_identity(context, certified.certificate + b"\n" + certified.key)
    elif serving.certificate is not None and serving.key is not None:
        load_identity(context, serving.certificate.read_bytes() + b"\n" + serving.key.read_bytes())
    else:
        load_identity(context, _self_signed(node.config.node_name, node.config.node_ips))
    return context


async def _asked_for(node: NodeContext) -> Certified:
    name = node.config.node_name
    subject = Subject.of_node(name, (name, *node.config.node_ips))
    while True:
        try:
            return await obtain(node.client, None, KUBELET_SERVING, subject, _PATIENCE)
        except NetlabError as error:
            log.warning("node %s: no certificate to serve with: %s", name, error)
            await asyncio.sleep(_RETRY)


def _self_signed(name: str, addresses: Sequence[str]) -> bytes:
    """A certificate and its key, in PEM form."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-kubelet")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem) + private
