"""Where an API server is, how to verify it, and the client's identity: what a `Client` is made from."""

from __future__ import annotations

import dataclasses
import logging
import os
import ssl
from pathlib import Path
from typing import Self

from netlab.api.credentials import Credentials, File, Identity, Source, Stored
from netlab.api.errors import ApiUnavailableError
from netlab.errors import UsageError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trust:
    """How a client verifies the API server."""

    authority: Source | None = None
    """The certificates (PEM), one of which must have signed the server's; None: the system's."""
    verify: bool = True
    server_name: str = ""
    """The name in the server's certificate, if it differs from the URL's."""


@dataclasses.dataclass(frozen=True)
class Access:
    """What one request is sent with."""

    identity: Identity
    tls: ssl.SSLContext | None


class Endpoint:
    """An API server: a Unix socket, or a URL, with or without a path, over TLS or plain HTTP.

    Like kubectl, sends no credentials over plain HTTP, where anyone on the path could read them.
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
        self.trust = trust or Trust()
        may_show = self._secure or socket is not None
        self._credentials = credentials if credentials is not None and may_show else Stored()
        self._context: ssl.SSLContext | None = None
        self._made_from: tuple[bytes, ...] = ()

    @classmethod
    def of_socket(cls, path: Path, token: Path | None = None) -> Self:
        """A server at a Unix socket, which takes the caller for its owner, or for whom the `token` in a file is of."""
        credentials = None if token is None else Stored(token=File(token, "token"))
        return cls("http://netlab", socket=path, credentials=credentials)

    def __str__(self) -> str:
        return str(self.socket or self.url)

    def trusting(self, authority: Source) -> Endpoint:
        """The same server and identity, where the server's certificate is to be signed by another authority."""
        trust = dataclasses.replace(self.trust, authority=authority, verify=True)
        return Endpoint(self.url, socket=self.socket, trust=trust, credentials=self._credentials)

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must have, if it differs from the URL's."""
        return self.trust.server_name or None

    async def access(self) -> Access:
        """What to send with a request now.

        Raises ApiUnavailableError if a plugin fails or its credential is unusable; UsageError if a file could never be
        read.
        """
        identity = await self._credentials.identity()
        try:
            return Access(identity, self._tls(identity) if self._secure else None)
        except UsageError as error:
            # Files were checked when first read, so this came from a plugin, which may give better ones next time.
            await self._credentials.renew(identity)
            raise ApiUnavailableError(f"{self}: {error}") from None

    async def renew(self, refused: Access) -> bool:
        """The server rejected our identity (401): returns whether a second attempt may succeed."""
        return await self._credentials.renew(refused.identity)

    def _tls(self, identity: Identity) -> ssl.SSLContext:
        authority = self.trust.authority.read() if self.trust.authority else b""
        made_from = (authority, identity.certificate, identity.key)
        if self._context is None or made_from != self._made_from:
            try:
                self._context = tls_context(self.trust, identity)
            except UsageError as error:
                # A certificate and its key are two files: during a rotation they briefly do not match.
                if self._context is None:
                    raise
                log.warning("%s: %s; keeping the previous ones", self, error)
            self._made_from = made_from
        return self._context


def tls_context(trust: Trust, identity: Identity) -> ssl.SSLContext:
    """Trust and identity for OpenSSL. Raises UsageError for an invalid certificate, or a key that does not match."""
    authority = trust.authority.read() if trust.authority else None
    try:
        # Python takes an empty text to mean the system's authorities, which must not replace a cluster's own.
        text = authority.decode("ascii", errors="replace").strip() or "(empty)" if authority is not None else None
        context = ssl.create_default_context(cadata=text)
    except ssl.SSLError:
        raise UsageError("the certificate-authority is not a certificate in PEM form") from None
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
        raise UsageError("the client-key is encrypted; remove its password")

    # OpenSSL takes a file name; a memory file has one, and leaves no key on disk.
    memory = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(identity.certificate.rstrip() + b"\n" + identity.key)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=no_password)
    except ssl.SSLError as error:
        reason = (error.reason or "not in PEM form").lower().replace("_", " ")
        raise UsageError(f"cannot use the client-certificate and client-key: {reason}") from None
    finally:
        os.close(memory)
