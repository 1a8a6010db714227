"""Reading manifests: files of Kubernetes objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from netlab.api import documents
from netlab.errors import UsageError

LARGEST = 16 * 1024 * 1024
"""Bytes of one file that are read; a larger one is not a manifest."""

_SUFFIXES = (".yaml", ".yml", ".json")


def load_documents(paths: list[Path]) -> list[dict[str, Any]]:
    """Every object of the files, in order: `-` is standard input, a folder its *.yaml, *.yml and *.json files.

    A `List`, or one of a kind (`PodList`), is taken apart. Raises `UsageError` naming the file (and line) that cannot
    be read.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        for source, text in _texts(path):
            for number, document in enumerate(documents.parse(source, text), start=1):
                found += _objects(f"{source}: document {number}", document)
    return found


def _objects(where: str, document: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise UsageError(f"{where} is not an object but {type(document).__name__}")
    kind = document.get("kind")
    if not isinstance(kind, str) or not (kind == "List" or (kind.endswith("List") and "items" in document)):
        yield document
        return
    items = document.get("items")
    if items is not None and not isinstance(items, list):
        raise UsageError(f"{where}: items is not a list but {type(items).__name__}")
    # The items of a list of one kind need not say what they are.
    implied = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
    for index, item in enumerate(items or []):
        yield from _objects(f"{where}: items[{index}]", implied | item if isinstance(item, dict) else item)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    try:
        if str(path) == "-":
            if sys.stdin is None:
                raise UsageError("standard input: it is closed")
            yield "standard input", _read("standard input", sys.stdin.buffer)
            return
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
            if not files:
                raise UsageError(f"{path}: the folder has no *.yaml, *.yml or *.json file")
        else:
            files = [path]
        for file in files:
            with file.open("rb") as opened:
                yield str(file), _read(str(file), opened)
    except OSError as error:
        raise UsageError(f"{'standard input' if str(path) == '-' else path}: {error.strerror}") from None


def _read(source: str, stream: BinaryIO) -> str:
    # One byte more than the limit: what is cut off would be lost without a word.
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UsageError(f"{source}: larger than {LARGEST >> 20} MiB: not a manifest")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{source}:{line}: is not a text file in UTF-8") from None
