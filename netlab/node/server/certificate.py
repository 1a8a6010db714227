"""The certificate with which a kubelet serves: the cluster's, or signed by itself as upstream's without one."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence

from netlab.api.serving.secure import load_identity
from netlab.node.context import KubeletConfig


def serving_context(config: KubeletConfig, client_ca: str) -> ssl.SSLContext:
    """TLS for the kubelet of a node, whose clients must present a certificate of the cluster's authority (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    # A session that is resumed would outlive its certificate.
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    serving = config.serving
    if serving is not None and serving.certificate is not None and serving.key is not None:
        load_identity(context, serving.certificate.read_bytes() + b"\n" + serving.key.read_bytes())
    else:
        load_identity(context, _self_signed(config.node_name, config.node_ips))
    return context


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
