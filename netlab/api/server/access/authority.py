"""The authority of a cluster: what it signs are certificates and the tokens of service accounts."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from netlab import files
from netlab.api.server.access.certificates import CertificateAuthority, new_key, pem_of
from netlab.api.serving.secure import load_identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ACCOUNTS_KEY = "sa.key"
"""The file of the authority's directory with the key that signs service accounts' tokens."""


class Authority(CertificateAuthority):
    """The authority that a cluster's clients and servers know each other by."""

    def __init__(self, directory: Path) -> None:
        """Raises `NetlabError` when its files cannot be made or read."""
        super().__init__(directory, "kubernetes")

    @cached_property
    def front_proxy(self) -> CertificateAuthority:
        """By which servers of other API groups know this one (kubeadm's front-proxy-ca): for who is no client of it."""
        return CertificateAuthority(self._directory / "front-proxy", "front-proxy-ca")

    @property
    def public_numbers(self) -> tuple[int, int]:
        """The public half of the key that signs tokens: a point of the curve P-256."""
        numbers = self._accounts_key.public_key().public_numbers()
        return numbers.x, numbers.y

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """TLS for a server with these names, whose clients may present a certificate of this authority."""
        signed = self.issue_server(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.certificate.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
        # Every connection is verified anew: a session that is resumed would outlive its certificate.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        context.set_alpn_protocols(["http/1.1"])
        load_identity(context, signed.certificate + signed.key)
        return context

    def sign(self, message: bytes) -> bytes:
        """The signature of a token: ES256, the two numbers one after the other (RFC 7518 section 3.4)."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        r, s = decode_dss_signature(self._accounts_key.sign(message, ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `sign` made this signature of a message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        if len(signature) != 64:
            return False
        encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        try:
            self._accounts_key.public_key().verify(encoded, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    @cached_property
    def key_id(self) -> str:
        """The name of the key that signs tokens: the digest of its public half, as upstream derives it."""
        from hashlib import sha256

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._accounts_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.urlsafe_b64encode(sha256(public).digest()).rstrip(b"=").decode()

    @cached_property
    def _accounts_key(self) -> EllipticCurvePrivateKey:
        return self._read_key(ACCOUNTS_KEY)

    def _make(self) -> None:
        files.replace(self._directory / ACCOUNTS_KEY, pem_of(new_key()).decode("ascii"))
        super()._make()
