"""An etcd of the user's own that keeps a lab's objects (`netlab up --store etcd=URL`), and the monitor's way to it.

The lab has no network but its own, so the monitor carries bytes from a socket in the lab's directory. Where they go is
written beside that directory, where nobody in the lab can write: who could would have the monitor connect to anything
that the host reaches.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from netlab import files
from netlab.errors import NetlabError, UnavailableError, UsageError
from netlab.lab.paths import LabPaths

if TYPE_CHECKING:
    import socket
    import ssl


class ExternalEtcd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it is, how it is known to be that one, as whom the lab is known there, and which keys are the lab's."""

    url: str
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    """Absolute paths; empty: the host's own authorities, and no certificate."""
    prefix: str = ""

    def is_same(self, other: ExternalEtcd) -> bool:
        """Whether both mean the same etcd in the same way."""
        return msgspec.structs.replace(self, prefix="") == msgspec.structs.replace(other, prefix="")

    def connect(self) -> socket.socket:
        """A connection to it. Raises `OSError`."""
        from netlab.api.server.storage import etcd_gateway

        connection = etcd_gateway.connect(etcd_gateway.parse(self.url), self._context())
        connection.settimeout(None)
        return connection

    def _context(self) -> ssl.SSLContext | None:
        return _context(self.cafile, self.certfile, self.keyfile) if self.url.startswith("https:") else None

    def require(self) -> None:
        """Raise `UnavailableError` unless it answers, and `UsageError` for files that are no certificates."""
        self._ask("kv/range", {"key": _encoded(f"{self.prefix}/netlab/claim")})

    def forget(self) -> None:
        """Remove all keys of the lab. Raises as `require`."""
        first, last = f"{self.prefix}/", f"{self.prefix}0"  # the letter after the slash
        self._ask("kv/deleterange", {"key": _encoded(first), "range_end": _encoded(last)})

    def _ask(self, method: str, message: dict[str, str]) -> None:
        from netlab.api.server.storage.etcd_gateway import AwayError, Gateway, RefusedError, UncertainError

        try:
            with contextlib.closing(Gateway(self.url, self._context())) as gateway:
                gateway.call(method, message)
        except (AwayError, UncertainError, RefusedError) as error:
            why = str(error).removeprefix(f"{self.url}: ")
            raise UnavailableError(
                f"etcd {self.url} does not answer ({why}): is it running, and is the URL right?"
            ) from None


@functools.cache
def _context(cafile: str, certfile: str, keyfile: str) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=cafile or None)
        if certfile:
            context.load_cert_chain(certfile, keyfile or None)
    except OSError as error:
        named = " and ".join(filter(None, (cafile, certfile, keyfile)))
        why = error.strerror or str(error)
        raise UsageError(f"etcd's {named}: {why}: give certificates and keys in PEM form") from None
    return context


def _encoded(key: str) -> str:
    from netlab.api.server.storage.etcd_gateway import encoded

    return encoded(key.encode())


def given(name: str, url: str, cafile: Path | None, certfile: Path | None, keyfile: Path | None) -> ExternalEtcd:
    """What a user asks for, for a new lab of that name. Raises `UsageError`."""
    from netlab.api.server.storage.etcd_gateway import parse

    is_socket = isinstance(parse(url).address, Path)
    if (cafile or certfile or keyfile) and not url.startswith("https:"):
        raise UsageError(
            f"etcd's URL {url!r} is not of https: leave --etcd-cafile, --etcd-certfile, --etcd-keyfile out"
        )
    if keyfile and not certfile:
        raise UsageError("--etcd-keyfile: it is the key of a certificate: give --etcd-certfile as well")
    files_given = {"cafile": cafile, "certfile": certfile, "keyfile": keyfile}
    paths = {key: str(path.absolute()) for key, path in files_given.items() if path is not None}
    # Labs on other machines, too, may have its name.
    prefix = f"/netlab/{name}-{uuid.uuid4().hex[:12]}"
    return ExternalEtcd(url if is_socket else url.rstrip("/"), prefix=prefix, **paths)


def note_of(paths: LabPaths) -> Path:
    """The file that says where a lab's etcd is."""
    return paths.directory.with_name(f"{paths.name}.etcd")


def read(paths: LabPaths) -> ExternalEtcd | None:
    """The etcd of a lab that is not its own; None if it has none. Raises `NetlabError`."""
    note = note_of(paths)
    try:
        return msgspec.json.decode(note.read_bytes(), type=ExternalEtcd)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NetlabError(f"lab {paths.name}: {note}, which says where its etcd is, cannot be read: {why}") from None


def write(paths: LabPaths, etcd: ExternalEtcd) -> None:
    """Note where a lab's etcd is. Raises `OSError`."""
    files.replace(note_of(paths), msgspec.json.encode(etcd).decode())
