"""TLS in a built-in program. Few need it, so pid 1 keeps it from being loaded (`images.preload`), and what it needs."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.machine.images import http
from netlab.machine.images.http import Request, Response

if TYPE_CHECKING:
    import ssl

_CENTURY = 36525  # days
_PATIENCE = 30.0
"""Seconds for a client to say something."""


def allow_tls() -> None:
    """Let this process load TLS from now on."""
    if sys.modules.get("ssl", ...) is None:
        del sys.modules["ssl"]


def context(certificate: str, key: str) -> ssl.SSLContext:
    """For a server with the certificate and the key in two files; without names, with new ones for localhost.

    Raises `OSError`.
    """
    allow_tls()
    import ssl
    import tempfile

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate or key:
        made.load_cert_chain(certificate, key)
        return made
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        Path(file.name).write_bytes(own_certificate())
        made.load_cert_chain(file.name)
    return made


def serve_http(listener: socket.socket, secret: ssl.SSLContext, answer: Callable[[Request], Response]) -> None:
    """Answer the requests of clients over TLS, each client in a thread of its own, until the process ends.

    In threads, because asyncio was loaded without TLS.
    """
    port = listener.getsockname()[1]

    def attend(connection: socket.socket) -> None:
        http.answer_blocking(connection, http.format_address(connection.getpeername()), port, answer)

    _serve(listener, secret, attend)


def _serve(listener: socket.socket, secret: ssl.SSLContext, answer: Callable[[socket.socket], None]) -> None:
    def attend(client: socket.socket) -> None:
        try:
            client.settimeout(_PATIENCE)
            with secret.wrap_socket(client, server_side=True) as connection:
                answer(connection)
        except OSError:
            client.close()  # the client left, or speaks no TLS

    def accept() -> None:
        listener.setblocking(True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=attend, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def own_certificate() -> bytes:
    """A certificate for localhost and its key, both in PEM."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=_CENTURY))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private
