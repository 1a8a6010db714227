"""Certificate authorities, and the certificates of X.509 that they sign.

The `cryptography` package is loaded when something is to be signed or verified.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netlab import files
from netlab.errors import NetlabError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CERTIFICATE, KEY = "ca.crt", "ca.key"
"""Files of an authority's directory: its certificate and its key."""

_LIFE = datetime.timedelta(days=3650)
"""As kubeadm's authority. A lab does not live so long; nothing has to be renewed."""
_BACKDATED = datetime.timedelta(minutes=5)
"""The same of one that a client asks for: less than the shortest life."""
_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
}
"""What a key is used for, by Kubernetes' names."""
_PURPOSES = {"server auth": "1.3.6.1.5.5.7.3.1", "client auth": "1.3.6.1.5.5.7.3.2"}
"""Whom a certificate is of (RFC 5280 section 4.2.1.12)."""
_SKEW = datetime.timedelta(hours=1)
"""How much earlier a certificate is valid, for clients whose clock is behind."""


@dataclasses.dataclass(frozen=True)
class Signed:
    """A certificate and its key, in PEM form."""

    certificate: bytes
    key: bytes = dataclasses.field(repr=False)


class CertificateAuthority:
    """A certificate authority in a directory, made when it is first used."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name` is its own. Raises `NetlabError` when its files cannot be made or read."""
        self._directory = directory
        self._name = name
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(0o700)  # the server's umask leaves no right to enter it
            # The certificate is written last: where there is one, the keys are there too.
            if not (directory / CERTIFICATE).exists():
                self._make()
            self.certificate = (directory / CERTIFICATE).read_bytes()
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None

    def issue_server(self, names: Sequence[str]) -> Signed:
        """A certificate for a server with these names and addresses."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        listed = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue("kube-apiserver", (), ExtendedKeyUsageOID.SERVER_AUTH, listed)

    def issue_client(self, user: str, groups: Sequence[str]) -> Signed:
        """A certificate that names a user and its groups (CN and O)."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        return self._issue(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def sign_request(self, asked: x509.CertificateSigningRequest, usages: Sequence[str], seconds: int) -> bytes:
        """The certificate, in PEM form, that was asked for, with these usages (certificates.v1.KeyUsage)."""
        from cryptography import x509

        issuer = x509.load_pem_x509_certificate(self.certificate)
        signer = self._read_key(KEY)
        life = datetime.timedelta(seconds=seconds)
        builder = _builder(asked.subject, issuer.subject, asked.public_key(), life, _BACKDATED)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        of_key = {_KEY_USAGES[each]: True for each in usages if each in _KEY_USAGES}
        if of_key:
            builder = builder.add_extension(_usages(**of_key), critical=True)
        purposes = [x509.ObjectIdentifier(_PURPOSES[each]) for each in usages if each in _PURPOSES]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
        try:
            names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            builder = builder.add_extension(names, critical=False)
        except x509.ExtensionNotFound:
            pass
        return _signed(builder, signer)

    def _read_key(self, name: str) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key((self._directory / name).read_bytes(), password=None)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None
        except (ValueError, TypeError):
            raise self._unusable(f"{name} is not a key in PEM form") from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise self._unusable(f"{name} is not a key of an elliptic curve")
        return key

    def _unusable(self, why: str) -> NetlabError:
        return NetlabError(
            f"the cluster's certificate authority in {self._directory} cannot be used: {why}; "
            "remove the directory for a new one (its clients then need a new kubeconfig)"
        )

    def _make(self) -> None:
        """Make all that belongs to it, the certificate last."""
        from cryptography import x509

        key = new_key()
        subject = _name(self._name, ())
        builder = _builder(subject, subject, key.public_key(), _LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        files.replace(self._directory / KEY, pem_of(key).decode("ascii"))
        files.replace(self._directory / CERTIFICATE, _signed(builder, key).decode("ascii"))

    def _issue(
        self, user: str, groups: Sequence[str], usage: x509.ObjectIdentifier, names: x509.ExtensionType | None
    ) -> Signed:
        from cryptography import x509

        try:
            issuer = x509.load_pem_x509_certificate(self.certificate)
        except ValueError:
            raise self._unusable(f"{CERTIFICATE} is not a certificate in PEM form") from None
        signer, key = self._read_key(KEY), new_key()
        builder = _builder(_name(user, groups), issuer.subject, key.public_key(), _LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return Signed(_signed(builder, signer), pem_of(key))


def new_key() -> EllipticCurvePrivateKey:
    """A key of the curve P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: EllipticCurvePrivateKey) -> bytes:
    """A key in PEM form."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, life: datetime.timedelta, earlier: datetime.timedelta = _SKEW
) -> x509.CertificateBuilder:
    """A certificate of a public key."""
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - earlier)
        .not_valid_after(now + life)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return _usages(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
    )


def _usages(**given: bool) -> x509.KeyUsage:
    from cryptography import x509

    every: dict[str, Any] = dict.fromkeys((*_KEY_USAGES.values(), "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(**(every | given))


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
