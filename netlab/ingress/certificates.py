"""Certificates of Secrets: whether a server can show one, and for which hosts it is."""

from __future__ import annotations

import binascii
import functools
import os
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from netlab.api.config_types import Secret
from netlab.errors import UsageError

_CHAIN, _KEY = "tls.crt", "tls.key"
TYPE = "kubernetes.io/tls"


class Shown(NamedTuple):
    """A chain with its private key, and the host names in its first certificate."""

    pem: str
    names: tuple[str, ...]


def of_secret(secrets: Mapping[str, Secret], namespace: str, name: str) -> Shown:
    """What the Secret has. Raises `UsageError` if it is not there, or a server cannot use it."""
    if not name:
        raise UsageError("secretName: is empty: there is no certificate to show")
    key = f"{namespace}/{name}"
    secret = secrets.get(key)
    if secret is None:
        raise UsageError(f"there is no Secret {key} of the type {TYPE}")
    try:
        content = secret.content()
        chain, private = content.get(_CHAIN, b"").decode("ascii"), content.get(_KEY, b"").decode("ascii")
    except (binascii.Error, ValueError):
        raise UsageError(f"Secret {key}: {_CHAIN} and {_KEY} are not PEM") from None
    for field, text in ((_CHAIN, chain), (_KEY, private)):
        if not text:
            raise UsageError(f"Secret {key}: {field} is empty")
    try:
        return _shown(chain, private)
    except ValueError as error:
        raise UsageError(f"Secret {key}: {error}") from None


@functools.lru_cache(maxsize=1024)
def _shown(chain: str, private: str) -> Shown:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key

    # Written anew: what else may be in a Secret's text does not reach the server.
    try:
        read = x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        raise ValueError(f"{_CHAIN} is not a chain of certificates in PEM") from None
    try:
        key = load_key(private.encode(), None)
    except (ValueError, TypeError):
        raise ValueError(f"{_KEY} is not a private key in PEM without a password") from None
    parts = [each.public_bytes(Encoding.PEM) for each in read]
    pem = b"".join([*parts, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]).decode("ascii")
    _require_usable(pem)
    try:
        extension = read[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = extension.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return Shown(pem, tuple(name.lower() for name in names))


def _require_usable(pem: str) -> None:
    """HAProxy refuses a whole configuration for one certificate that OpenSSL does not take: ask OpenSSL first."""
    # OpenSSL reads files alone; this one has no name, and ends with its descriptor.
    with open(os.memfd_create("certificate"), "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
        file.write(pem)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        except ssl.SSLError as error:
            said = (error.reason or str(error)).lower().replace("_", " ")
            raise ValueError(f"OpenSSL does not take {_CHAIN} and {_KEY}: {said}") from None
