"""What images come in: `docker save`, an OCI layout, or the folder that `skopeo copy … dir:` writes.

Each is read as files by their names in it. Everything that has a digest is checked against it.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from netlab.errors import UsageError
from netlab.oci import config, streams
from netlab.oci.streams import CHUNK, Plain

_LARGEST_DOCUMENT = 4 << 20
"""Bytes of a manifest or a configuration (distribution-spec: at least 4 MiB)."""
_MOST_FILES = 10_000
_DEEPEST_INDEX = 4
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
"""Annotations with an image's tag or name: OCI's, and containerd's and Docker's."""


@dataclass(frozen=True)
class Image:
    """An image in an archive: its configuration as it is written, its layers, the lowest first, and its names.

    `digest` is its manifest's, `sha256:…`, or "" where that is not the one it has in a registry.
    """

    configuration: bytes
    layers: list[Path]
    names: list[str] = field(default_factory=list)
    digest: str = ""


class _Entry(msgspec.Struct):
    """Of Docker's manifest.json."""

    Config: str
    Layers: list[str]
    RepoTags: list[str] | None = None


class _Descriptor(msgspec.Struct):
    digest: str
    annotations: dict[str, str] = {}
    platform: dict[str, Any] | None = None


class _Manifest(msgspec.Struct):
    """A manifest or an index of OCI or Docker (image-spec, manifest.md and image-index.md)."""

    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None


def images(files: Mapping[str, Path]) -> list[Image]:
    """The images in an archive's files. Raises `UsageError` for what is none, or not whole."""
    if "manifest.json" in files:
        text = _document(files, "manifest.json")
        if text.lstrip()[:1] == b"[":
            return [_of_docker(files, each) for each in _decoded(text, list[_Entry])]
        return [_of_manifest(files, text, "", [])]
    if "index.json" in files:
        index = _decoded(_document(files, "index.json"), _Manifest)
        return [image for each in index.manifests or () for image in _of_descriptor(files, each, 0)]
    raise UsageError("it holds no image: neither a manifest.json, as `docker save` writes, nor OCI's index.json")


def unpacked(archive: Path, into: Path) -> dict[str, Path]:
    """Write the files of an archive, whatever compresses it, into a folder; where each is, by its name there."""
    found: dict[str, Path] = {}
    links: dict[str, str] = {}
    with Plain(archive) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r:", errors="surrogateescape") as tar:  # type: ignore[call-overload]
                for member in tar:
                    name = posixpath.normpath(member.name)
                    if len(found) + len(links) >= _MOST_FILES:
                        raise UsageError("it has too many files for an archive of images")
                    if member.issym() or member.islnk():
                        base = posixpath.dirname(name) if member.issym() else ""
                        links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
                    elif member.isreg() and not member.issparse():  # whose holes would be written out
                        found[name] = into / str(len(found))
                        _copy(tar, member, found[name])
        except tarfile.TarError as error:
            raise UsageError(f"it is no archive of images: {error}") from None
    # As older versions of `docker save` write a layer that two images share.
    return found | {name: found[target] for name, target in links.items() if target in found}


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None
    with target.open("wb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)


def _of_docker(files: Mapping[str, Path], entry: _Entry) -> Image:
    layers = [_file(files, posixpath.normpath(each)) for each in entry.Layers]
    return Image(_document(files, posixpath.normpath(entry.Config)), layers, entry.RepoTags or [])


def _of_descriptor(files: Mapping[str, Path], descriptor: _Descriptor, depth: int) -> Iterator[Image]:
    """The images of a descriptor that this machine can run: of an index with variants, its own."""
    if depth > _DEEPEST_INDEX:
        raise UsageError("its indexes are nested too deeply")
    text = _blob(files, descriptor.digest)
    manifest = _decoded(text, _Manifest)
    if manifest.manifests is None:
        notes = descriptor.annotations
        name = notes.get(_FULL_NAME) or notes.get(_NAME, "")
        # A bare tag says nothing of the repository.
        yield _of_manifest(files, text, descriptor.digest, [name] if "/" in name or ":" in name else [])
        return
    own = [each for each in manifest.manifests if _is_ours(each)]
    if not own:
        raise UsageError(f"it has no image for linux/{config.architecture()}")
    for each in own[:1]:
        each.annotations = descriptor.annotations | each.annotations
        yield from _of_descriptor(files, each, depth + 1)


def _is_ours(descriptor: _Descriptor) -> bool:
    where = descriptor.platform or {}
    return (where.get("os", "linux"), where.get("architecture")) in (
        ("linux", config.architecture()),
        ("linux", None),
    )


def _of_manifest(files: Mapping[str, Path], text: bytes, digest: str, names: list[str]) -> Image:
    manifest = _decoded(text, _Manifest)
    if manifest.config is None or manifest.layers is None:
        raise UsageError("its manifest is of an old kind, or of no image: it names no configuration and layers")
    layers = [_checked(files, each.digest) for each in manifest.layers]
    return Image(_blob(files, manifest.config.digest), layers, names, digest)


def _blob(files: Mapping[str, Path], digest: str) -> bytes:
    _checked(files, digest)
    return _document(files, _name_of(files, digest))


def _checked(files: Mapping[str, Path], digest: str) -> Path:
    """The file of a digest. Raises `UsageError` if it has another."""
    path = _file(files, _name_of(files, digest))
    if f"sha256:{streams.digest(path)}" != digest:
        raise UsageError(f"{digest[:19]} is damaged: it has another digest")
    return path


def _name_of(files: Mapping[str, Path], digest: str) -> str:
    """Where an archive has a blob: in a layout beneath blobs, in skopeo's folder beside the manifest."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256":
        raise UsageError(f"{digest[:80]!r}: only SHA-256 digests are known here")
    return value if value in files else f"blobs/sha256/{value}"


def _file(files: Mapping[str, Path], name: str) -> Path:
    if name not in files:
        raise UsageError(f"it lacks {name[:100]!r}")
    return files[name]


def _document(files: Mapping[str, Path], name: str) -> bytes:
    path = _file(files, name)
    if path.stat().st_size > _LARGEST_DOCUMENT:
        raise UsageError(f"{name[:100]!r} in it is larger than {_LARGEST_DOCUMENT} bytes")
    return path.read_bytes()


def _decoded(text: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise UsageError(f"its manifest is not valid: {error}") from None
