"""Snapshots: all objects of a cluster in one file, from which its database can be made anew.

A file has a header and then an object's JSON per line. The header's digest tells whether all of them are as they were.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Container, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, by_kind
from netlab.errors import NetlabError, NotFoundError

API_VERSION = "netlab/v1"
KIND = "Snapshot"

_MODULUS = 1 << 56


class Digest(NamedTuple):
    """A sum over objects, whatever their order: objects can be added and taken away."""

    objects: int = 0
    value: int = 0

    def changed(self, plural: str, before: bytes | None, after: bytes | None) -> Digest:
        """With the JSON of one object of a resource changed; None where there is none."""
        objects, value = self
        if before is not None:
            objects, value = objects - 1, value - _digest(plural, before)
        if after is not None:
            objects, value = objects + 1, value + _digest(plural, after)
        return Digest(objects, value % _MODULUS)


def _digest(plural: str, raw: bytes) -> int:
    key = plural.encode()
    if len(key) > blake2b.MAX_KEY_SIZE:
        key = blake2b(key).digest()  # PLURAL.GROUP may be longer.
    return int.from_bytes(blake2b(raw, digest_size=7, key=key).digest(), "big")


class Header(msgspec.Struct, rename={"api_version": "apiVersion"}):
    """The first line: the resourceVersion, when it was taken (RFC 3339), and what follows."""

    revision: int
    time: str
    objects: int
    digest: int
    kind: str = KIND
    api_version: str = API_VERSION
    lab: dict[str, Any] | None = None
    """The specification of the lab that it was saved from, if it was."""


class Snapshot(msgspec.Struct):
    """A snapshot that was read: the objects' JSON by resource, as plural names."""

    header: Header
    objects: list[tuple[str, bytes]]


class _Identity(msgspec.Struct, rename={"api_version": "apiVersion"}):
    api_version: str
    kind: str
    metadata: ObjectMeta


def lines(revision: int, objects: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The lines of a snapshot of these objects, each with its resource."""
    listed = list(objects)
    digest = Digest()
    for plural, raw in listed:
        digest = digest.changed(plural, None, raw)
    taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    yield msgspec.json.encode(Header(revision, taken, digest.objects, digest.value)) + b"\n"
    for _, raw in listed:
        yield raw + b"\n"


def write(path: Path, content: Iterable[bytes]) -> None:
    """Replace a file by these lines, whole or not at all; its owner alone may read it. Raises `OSError`."""
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.writelines(content)
        fresh.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def copy(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot that was read to another file. Raises `OSError`."""
    write(path, [msgspec.json.encode(snapshot.header) + b"\n", *(raw + b"\n" for _, raw in snapshot.objects)])


def without(snapshot: Snapshot, names: Container[tuple[str, str]]) -> Snapshot:
    """A snapshot without some objects: each is named by its resource and its name."""
    kept, digest = [], Digest()
    for plural, raw in snapshot.objects:
        if (plural, msgspec.json.decode(raw, type=_Identity).metadata.name) not in names:
            kept.append((plural, raw))
            digest = digest.changed(plural, None, raw)
    return Snapshot(msgspec.structs.replace(snapshot.header, objects=digest.objects, digest=digest.value), kept)


def read_header(path: Path) -> Header:
    """What a snapshot is of. Raises `NetlabError`, and `NotFoundError` if there is no such file."""
    try:
        with path.open("rb") as file:
            return _header(path, file.readline())
    except OSError as error:
        raise _unreadable(path, error) from error


def read(path: Path) -> Snapshot:
    """A whole snapshot, as it was written. Raises as `read_header` does, and when something is missing or changed."""
    try:
        first, *rest = path.read_bytes().splitlines() or [b""]
    except OSError as error:
        raise _unreadable(path, error) from error
    header, digest = _header(path, first), Digest()
    objects = []
    custom: dict[tuple[str, str], str] = {}
    for number, raw in enumerate(rest, start=2):
        plural = _plural(path, number, raw, custom)
        digest = digest.changed(plural, None, raw)
        objects.append((plural, raw))
    if digest != (header.objects, header.digest):
        raise NetlabError(f"snapshot {path} is damaged: its objects are not the {header.objects} that were written")
    return Snapshot(header, objects)


def _header(path: Path, line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        header = None
    if header is None or (header.kind, header.api_version) != (KIND, API_VERSION):
        raise NetlabError(f"{path} is not a snapshot: `netlab snapshot save` writes one")
    return header


class _Names(msgspec.Struct):
    kind: str


class _DefinitionSpec(msgspec.Struct):
    group: str
    names: _Names


class _Definition(msgspec.Struct):
    spec: _DefinitionSpec


def _plural(path: Path, number: int, raw: bytes, custom: dict[tuple[str, str], str]) -> str:
    """The resource of an object; `custom` has those of the definitions before it, by group and kind."""
    try:
        identity = msgspec.json.decode(raw, type=_Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NetlabError(f"snapshot {path} is damaged: line {number}: {error}") from None
    meta = identity.metadata
    if not (meta.name and meta.uid and meta.resourceVersion.isascii() and meta.resourceVersion.isdecimal()):
        raise NetlabError(f"snapshot {path} is damaged: line {number}: it has no name, uid or resourceVersion")
    resource = by_kind(identity.api_version, identity.kind)
    if resource is CUSTOMRESOURCEDEFINITIONS:
        spec = msgspec.json.decode(raw, type=_Definition).spec
        custom[spec.group, spec.names.kind] = identity.metadata.name
    known = custom.get((identity.api_version.partition("/")[0], identity.kind))
    if resource is None and known is not None:
        return known
    if resource is None:
        raise NetlabError(f"snapshot {path}: line {number}: netlab has no {identity.kind} of {identity.api_version}")
    return resource.collection


def _unreadable(path: Path, error: OSError) -> NetlabError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"there is no snapshot {path}")
    return NetlabError(f"snapshot {path} cannot be read: {error.strerror}")
