"""Who a client is to the API server: tokens and certificates, from a kubeconfig, from files, from a plugin."""

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
"""Seconds that a credential plugin may take: it asks a server of its own."""

_COMPLAINT = 200
"""Characters of a plugin's last word that an error quotes."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a client shows at one moment: a bearer token, a certificate chain and its key (PEM), or nothing."""

    # Not in repr(): a value that is logged by accident must not tell them.
    token: str = dataclasses.field(default="", repr=False)
    certificate: bytes = dataclasses.field(default=b"", repr=False)
    key: bytes = dataclasses.field(default=b"", repr=False)


class Source(Protocol):
    """Where a secret or a certificate is."""

    def read(self) -> bytes:
        """Its bytes as they are now; raises UsageError when there have never been any."""


@dataclasses.dataclass(frozen=True)
class Inline:
    """Bytes that stood in the kubeconfig itself."""

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
        """The file's bytes; the last ones that could be read while it is being replaced.

        Raises UsageError, which names the field and the file, when it could never be read.
        """
        try:
            status = self._path.stat()
            # Before the content: a change between the two is found by the next call.
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._content, self._seen = self._path.read_bytes(), seen
        except OSError as error:
            if not self._seen:
                raise UsageError(f"{self._what}: {self._path} cannot be read: {error.strerror}") from None
        return self._content


class Credentials(Protocol):
    """Something that knows who the client is."""

    async def identity(self) -> Identity:
        """What to show now. Raises UsageError or ApiUnavailableError when it cannot be told."""

    async def renew(self, refused: Identity) -> bool:
        """The server refused that one (401): whether there is, or may be, another to try."""


class Stored:
    """A token and a certificate from a kubeconfig or from files."""

    def __init__(
        self, *, token: Source | None = None, certificate: Source | None = None, key: Source | None = None
    ) -> None:
        self._token = token
        self._certificate = certificate
        self._key = key

    async def identity(self) -> Identity:
        """What the files hold now."""
        return self.read()

    def read(self) -> Identity:
        """What the files hold now. Raises UsageError when one could never be read."""
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
    """How a credential plugin is called (client.authentication.k8s.io)."""

    command: str
    """A path, or a program's name to be found on the PATH."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    cluster: Mapping[str, Any] | None = None
    """What the plugin is told of the cluster (provideClusterInfo)."""
    user: str = ""
    """Whose credentials they are, for messages."""


class Plugin:
    """A program that prints an ExecCredential: called when there is none yet, when it has expired, and after a 401."""

    def __init__(self, config: PluginConfig) -> None:
        self._config = config
        self._identity: Identity | None = None
        self._expires: datetime.datetime | None = None
        self._calling = asyncio.Lock()

    async def identity(self) -> Identity:
        """The credential in hand, or a new one. Raises ApiUnavailableError when the plugin fails: it may be passing."""
        # All of a client's requests ask at once when a credential expires; the plugin is called once.
        async with self._calling:
            if self._identity is None or (self._expires and datetime.datetime.now(datetime.UTC) >= self._expires):
                self._identity, self._expires = self._accept(await self._call())
            return self._identity

    async def renew(self, refused: Identity) -> bool:
        """Forget what was refused, so that the next call asks the plugin."""
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
            raise self._failure(f"gave no answer in {PLUGIN_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                # With its children: wait() is over when nobody holds the other ends of the pipes any more.
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise self._failure(f"ended with status {process.returncode}: {lines[-1][:_COMPLAINT] if lines else ''}")
        return said

    def _accept(self, said: bytes) -> tuple[Identity, datetime.datetime | None]:
        # Nothing of the answer is quoted: it is, or nearly is, a secret.
        try:
            answer = msgspec.json.decode(said, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            raise self._failure(f"printed no ExecCredential: {error}") from None
        if (answer.kind, answer.apiVersion) != ("ExecCredential", self._config.api_version):
            raise self._failure(f"printed another kind or version than an ExecCredential of {self._config.api_version}")
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
