"""Reading manifests: files of Kubernetes objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from netlab.errors import UsageError

_LARGEST = 16 * 1024 * 1024
"""Bytes of one file that are read; a larger one is not a manifest."""

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(Loader):  # type: ignore[misc]
    """YAML as Kubernetes reads it: a key that stands twice is an error, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result


# In Kubernetes' JSON a date is a string.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


def load_documents(paths: list[Path]) -> list[dict[str, Any]]:
    """Every object of the files, in order: `-` is standard input, a folder its *.yaml, *.yml and *.json files.

    A `List` is taken apart. Raises `UsageError` naming the file (and line) that cannot be read.
    """
    documents: list[dict[str, Any]] = []
    for path in paths:
        for source, text in _texts(path):
            for index, document in enumerate(_parse(source, text)):
                if not isinstance(document, dict):
                    raise UsageError(f"{source}: document {index + 1} is not an object but {type(document).__name__}")
                if document.get("kind") == "List" and isinstance(document.get("items"), list):
                    documents += document["items"]
                else:
                    documents.append(document)
    return documents


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    if str(path) == "-":
        yield "standard input", sys.stdin.read(_LARGEST)
        return
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
            if not files:
                raise UsageError(f"{path}: the folder has no *.yaml, *.yml or *.json file")
        else:
            files = [path]
        for file in files:
            if file.stat().st_size > _LARGEST:
                raise UsageError(f"{file}: larger than {_LARGEST >> 20} MiB: not a manifest")
            yield str(file), file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _parse(source: str, text: str) -> list[Any]:
    try:
        return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document is not None]
    except yaml.MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{where}: {error.problem or 'is not YAML'}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: is not YAML: {str(error).splitlines()[0]}") from None
