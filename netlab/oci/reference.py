"""Names of images, in full as engines write them: docker.io/library/busybox:latest for busybox."""

from __future__ import annotations

import re

_DOMAIN, _LIBRARY = "docker.io", "library"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255
"""All as in the grammar of github.com/distribution/reference."""


def full(reference: str) -> str:
    """The full form of a reference, with its tag, or with its digest alone if it has one.

    Raises `ValueError` for what is no reference.
    """
    name, _, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = _DOMAIN, name
    repository, colon, tag = rest.partition(":")
    if first == _DOMAIN and "/" not in repository:
        repository = f"{_LIBRARY}/{repository}"
    valid = (
        _HOST.fullmatch(first)
        and _REPOSITORY.fullmatch(repository)
        and len(first) + len(repository) < _LONGEST
        and (_TAG.fullmatch(tag) or not colon)
        and (_DIGEST.fullmatch(digest) or "@" not in reference)
    )
    if not valid:
        raise ValueError(f"{reference[:_LONGEST]!r} is not the name of an image, as registry.example/name:tag is")
    return f"{first}/{repository}@{digest}" if digest else f"{first}/{repository}:{tag or 'latest'}"


def repository(reference: str) -> str:
    """A full reference without its tag or digest."""
    name = reference.partition("@")[0]
    host, slash, path = name.partition("/")
    return f"{host}{slash}{path.partition(':')[0]}"
