"""Where an API server is, whom it is taken for, and who the client is to it: what a `Client` is made from."""

from __future__ import annotations

import dataclasses
import logging
import os
import ssl
from pathlib import Path
from typing import Self

from netlab.api.credentials import Credentials, Identity, Source, Stored
from netlab.api.errors import ApiUnavailableError
from netlab.errors import UsageError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trust:
    """Whom a client takes for the API server."""

    authority: Source | None = None
    """The certificates (PEM) one of which must have signed the server's; None: the system's own."""
    verify: bool = True
    server_name: str = ""
    """The name in the server's certificate, where it is not the one in the URL."""


@dataclasses.dataclass(frozen=True)
class Access:
    """What one request is sent with."""

    identity: Identity
    tls: ssl.SSLContext | None


class Endpoint:
    """An API server: a Unix socket, or a URL with a path or none, over TLS or in the clear.

    Over plain HTTP no credentials are sent, as by kubectl: everybody on the way could read them.
    """

    def __init__(
        self,
        url: str,
        *,
        socket: Path | None = None,
        trust: Trust | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.socket = socket
        self._secure = url.startswith("https:")
        self._trust = trust or Trust()
        self._credentials = credentials if credentials is not None and self._secure else Stored()
        self._context: ssl.SSLContext | None = None
        self._made_from: tuple[bytes, ...] = ()

    @classmethod
    def of_socket(cls, path: Path) -> Self:
        """The lab's own server: who may open its socket may do everything."""
        return cls("http://netlab", socket=path)

    def __str__(self) -> str:
        return str(self.socket or self.url)

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must have, where it is not the URL's."""
        return self._trust.server_name or None

    async def access(self) -> Access:
        """What to send a request with now.

        Raises ApiUnavailableError when a plugin fails, or what it gave is of no use; UsageError when a file could never
        be read.
        """
        identity = await self._credentials.identity()
        try:
            return Access(identity, self._tls(identity) if self._secure else None)
        except UsageError as error:
            # Files were tried when they were first read: this is a plugin's, which may give better ones the next time.
            await self._credentials.renew(identity)
            raise ApiUnavailableError(f"{self}: {error}") from None

    async def renew(self, refused: Access) -> bool:
        """The server did not accept who we are (401): whether a second attempt may fare better."""
        return await self._credentials.renew(refused.identity)

    def _tls(self, identity: Identity) -> ssl.SSLContext:
        authority = self._trust.authority.read() if self._trust.authority else b""
        made_from = (authority, identity.certificate, identity.key)
        if self._context is None or made_from != self._made_from:
            try:
                self._context = tls_context(self._trust, identity)
            except UsageError as error:
                # A certificate and its key are two files: between the two writes of a rotation they do not match.
                if self._context is None:
                    raise
                log.warning("%s: %s; going on with the ones before", self, error)
            self._made_from = made_from
        return self._context


def tls_context(trust: Trust, identity: Identity) -> ssl.SSLContext:
    """Whom to trust and whom to be, for OpenSSL. Raises UsageError for what is no certificate, or not its key."""
    authority = trust.authority.read() if trust.authority else None
    try:
        # Python reads an empty text as the system's own authorities: a cluster's must not become anybody's.
        text = authority.decode("ascii", errors="replace").strip() or "(empty)" if authority is not None else None
        context = ssl.create_default_context(cadata=text)
    except ssl.SSLError:
        raise UsageError("the certificate-authority is no certificate in PEM form") from None
    # Go's rules of trust, for which clusters' certificates are made: an intermediate authority may be trusted alone,
    # and an authority needs no key usage extension (which Python demands from 3.13 on).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if identity.certificate:
        _load_certificate(context, identity)
    return context


def _load_certificate(context: ssl.SSLContext, identity: Identity) -> None:
    def no_password() -> str:
        raise UsageError("the client-key is encrypted: give it without a password")

    # OpenSSL's call takes a file's name; memory has one, and leaves no key on a disk.
    memory = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(identity.certificate.rstrip() + b"\n" + identity.key)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=no_password)
    except ssl.SSLError as error:
        reason = (error.reason or "not in PEM form").lower().replace("_", " ")
        raise UsageError(f"the client-certificate and client-key cannot be used: {reason}") from None
    finally:
        os.close(memory)
