"""A client's identity for the API server: tokens and certificates, from a kubeconfig, files or a plugin."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from netlab.api.errors import ApiUnavailableError
from netlab.errors import UsageError

PLUGIN_TIMEOUT = 60.0
"""Seconds that a credential plugin may take: it may query a server of its own."""

_COMPLAINT = 200
"""How many characters of a plugin's last line an error quotes."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a client presents at one moment: a bearer token, a certificate chain and its key (PEM), or nothing."""

    # Not in repr(): a value that is logged by accident must not reveal them.
    token: str = dataclasses.field(default="", repr=False)
    certificate: bytes = dataclasses.field(default=b"", repr=False)
    key: bytes = dataclasses.field(default=b"", repr=False)


class Source(Protocol):
    """The source of a secret or a certificate."""

    def read(self) -> bytes:
        """Its current bytes. Raises UsageError if it could never be read."""


@dataclasses.dataclass(frozen=True)
class Inline:
    """Bytes in the kubeconfig itself."""

    data: bytes = dataclasses.field(repr=False)

    def read(self) -> bytes:
        """The bytes."""
        return self.data


class File:
    """A file that is read again when it has changed: projected tokens live an hour, kubelets' certificates a year."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._seen: tuple[int, ...] = ()
        self._content = b""

    def read(self) -> bytes:
        """The file's bytes; while it is being replaced, the last ones that could be read.

        Raises UsageError, naming the field and the file, if it could never be read.
        """
        try:
            status = self._path.stat()
            # Before the content: the next call finds a change between the two.
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._content, self._seen = self._path.read_bytes(), seen
        except OSError as error:
            if not self._seen:
                raise UsageError(f"{self._what}: {self._path} cannot be read: {error.strerror}") from None
        return self._content


class Credentials(Protocol):
    """A source of the client's identity."""

    async def identity(self) -> Identity:
        """The identity to present now. Raises UsageError or ApiUnavailableError if there is none."""

    async def renew(self, refused: Identity) -> bool:
        """The server refused that identity (401): returns whether there is, or may be, another to try."""


class Stored:
    """A token and a certificate from a kubeconfig or from files."""

    def __init__(
        self, *, token: Source | None = None, certificate: Source | None = None, key: Source | None = None
    ) -> None:
        self._token = token
        self._certificate = certificate
        self._key = key

    async def identity(self) -> Identity:
        """The files' current contents."""
        return self.read()

    def read(self) -> Identity:
        """The files' current contents. Raises UsageError if one could never be read."""
        token = self._token.read().decode("ascii", errors="replace").strip() if self._token else ""
        certificate = self._certificate.read() if self._certificate else b""
        return Identity(token, certificate, self._key.read() if self._key else b"")

    async def renew(self, refused: Identity) -> bool:
        """Whether the files have changed since."""
        return self.read() != refused


class _Status(msgspec.Struct):
    token: str | None = None
    clientCertificateData: str | None = None  # noqa: N815 - Kubernetes' own field names
    clientKeyData: str | None = None  # noqa: N815
    expirationTimestamp: datetime.datetime | None = None  # noqa: N815


class _ExecCredential(msgspec.Struct):
    apiVersion: str  # noqa: N815
    kind: str
    status: _Status | None = None


@dataclasses.dataclass(frozen=True)
class PluginConfig:
    """How to call a credential plugin (client.authentication.k8s.io)."""

    command: str
    """A path, or the name of a program on the PATH."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    cluster: Mapping[str, Any] | None = None
    """What the plugin learns about the cluster (provideClusterInfo)."""
    user: str = ""
    """Whose credentials they are, for messages."""


class Plugin:
    """A program that prints an ExecCredential: called at first, when the credential has expired, and after a 401."""

    def __init__(self, config: PluginConfig) -> None:
        self._config = config
        self._identity: Identity | None = None
        self._expires: datetime.datetime | None = None
        self._calling = asyncio.Lock()

    async def identity(self) -> Identity:
        """The current credential, or a new one. Raises ApiUnavailableError if the plugin fails, perhaps for now."""
        # When a credential expires all of a client's requests ask at once; the plugin is only called once.
        async with self._calling:
            if self._identity is None or (self._expires and datetime.datetime.now(datetime.UTC) >= self._expires):
                self._identity, self._expires = self._accept(await self._call())
            return self._identity

    async def renew(self, refused: Identity) -> bool:
        """Forget the refused credential, so that the next call asks the plugin."""
        if self._identity == refused:
            self._identity = None
        return True

    async def _call(self) -> bytes:
        spec: dict[str, Any] = {"interactive": False}
        if self._config.cluster is not None:
            spec["cluster"] = self._config.cluster
        info = {"apiVersion": self._config.api_version, "kind": "ExecCredential", "spec": spec}
        environment = os.environ | dict(self._config.env) | {"KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                self._config.command,
                *self._config.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise self._failure(f"cannot be run: {error.strerror}") from None
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT):
                said, complaint = await process.communicate()
        except TimeoutError:
            raise self._failure(f"did not answer within {PLUGIN_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                # With its children: wait() only ends when all other ends of the pipes are closed.
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise self._failure(f"ended with status {process.returncode}: {lines[-1][:_COMPLAINT] if lines else ''}")
        return said

    def _accept(self, said: bytes) -> tuple[Identity, datetime.datetime | None]:
        # Do not quote the answer: it is, or may contain, a secret.
        try:
            answer = msgspec.json.decode(said, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            raise self._failure(f"printed no ExecCredential: {error}") from None
        if (answer.kind, answer.apiVersion) != ("ExecCredential", self._config.api_version):
            raise self._failure(f"did not print an ExecCredential of version {self._config.api_version}")
        status = answer.status or _Status()
        if bool(status.clientCertificateData) != bool(status.clientKeyData):
            raise self._failure("printed only one of clientCertificateData and clientKeyData")
        if not status.token and not status.clientCertificateData:
            raise self._failure("printed neither a token nor a client certificate")
        expires = status.expirationTimestamp
        if expires is not None and expires.tzinfo is None:
            raise self._failure("printed an expirationTimestamp without a time zone")
        certificate, key = (status.clientCertificateData or "").encode(), (status.clientKeyData or "").encode()
        return Identity(status.token or "", certificate, key), expires

    def _failure(self, what: str) -> ApiUnavailableError:
        return ApiUnavailableError(f"user {self._config.user!r}: the plugin {self._config.command} {what.strip(': ')}")
