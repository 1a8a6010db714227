"""The table: every field of every built-in kind, with its name in JSON, its number in protobuf, and how it is merged.

kinds.json has a line for each message. A field is its name in JSON (none: its message's fields stand in the place of
its own), its number, its type, and how lists and maps are merged. Before the type, `!` marks a required field, `*` one
of which a zero differs from none (a pointer in Go), `[]` a list and `{}` a map with texts as keys. Facts of Kubernetes
1.37 (k8s.io/api, apimachinery, apiextensions-apiserver, kube-aggregator and metrics: generated.proto, and the tags of
types.go).
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "double"})
"""The types that are no messages."""


class Merging(msgspec.Struct, frozen=True):
    """How changes of a list or map are merged: by strategic merge patch, and by server-side apply."""

    patch: str = ""
    """`merge`, `retainKeys` or both; empty: replaced as a whole."""
    key: str = ""
    """Of a list of objects that is merged: the field that tells items apart."""
    list: str = ""
    """`atomic`, `set` or `map`."""
    keys: tuple[str, ...] = ()
    """Of a list that is a map: the fields that tell items apart."""
    map: str = ""
    """`atomic` or `granular`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of a message."""

    name: str
    """In JSON; empty for a message whose fields stand in the place of its own."""
    number: int
    type: str
    """A scalar's or a message's, of a list or map that of its items."""
    repeated: bool
    mapped: bool
    required: bool
    pointer: bool
    """Whether the zero of its type is a value, and not the same as none."""
    merging: Merging


@dataclasses.dataclass(frozen=True)
class Message:
    """An object with named fields."""

    name: str
    """The end of its Go package's path, its version, and its type: `core.v1.Pod`."""
    own: tuple[Field, ...]
    """As protobuf has them."""
    atomic: bool
    """Whether server-side apply replaces it as a whole."""

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """As JSON has them, by name: those of the messages without a name among them."""
        found: dict[str, Field] = {}
        for field in self.own:
            found.update({field.name: field} if field.name else message(field.type).fields)
        return found


class Kind(NamedTuple):
    """A kind, and the message that it is."""

    group: str
    version: str
    kind: str
    message: str

    @property
    def api_version(self) -> str:
        """`v1` for the core group, `group/version` for the others."""
        return f"{self.group}/{self.version}" if self.group else self.version


_OF_EVERY_VERSION = frozenset({"DeleteOptions", "Status", "WatchEvent"})
"""Kinds of metav1 that clients send and read in the version of any group."""

_OF_META = frozenset({"APIGroup", "APIGroupList", "APIResourceList", "APIVersions"})

_PARTIAL = frozenset({"PartialObjectMetadata", "PartialObjectMetadataList"})


class _File(msgspec.Struct):
    messages: dict[str, msgspec.Raw]
    atomic: frozenset[str]
    kinds: tuple[Kind, ...]


@functools.cache
def _file() -> _File:
    return msgspec.json.decode(Path(__file__).with_name("kinds.json").read_bytes(), type=_File)


def _field(name: str, number: int, text: str, merging: dict[str, Any] | None = None) -> Field:
    required, text = text.startswith("!"), text.removeprefix("!")
    pointer, text = text.startswith("*"), text.removeprefix("*")
    merged = msgspec.convert(merging or {}, Merging)
    kind = text.removeprefix("[]").removeprefix("{}")
    return Field(name, number, kind, text.startswith("[]"), text.startswith("{}"), required, pointer, merged)


def names() -> tuple[str, ...]:
    """The names of all messages."""
    return tuple(_file().messages)


@functools.cache
def message(name: str) -> Message:
    """The message of a name that the table has."""
    file = _file()
    own = msgspec.json.decode(file.messages[name], type=list[tuple[Any, ...]])
    return Message(name, tuple(_field(*facts) for facts in own), name in file.atomic)


def kinds() -> tuple[Kind, ...]:
    """Every kind of the built-in groups."""
    return _file().kinds


@functools.cache
def _messages_of_kinds() -> dict[tuple[str, str], str]:
    return {(each.api_version, each.kind): each.message for each in kinds()}


@functools.cache
def _kinds_by_message() -> frozenset[str]:
    named = {*_OF_EVERY_VERSION, *_OF_META, *_PARTIAL}
    return frozenset({*_messages_of_kinds().values(), "core.v1.List", *(f"meta.v1.{name}" for name in named)})


def is_kind(name: str) -> bool:
    """Whether a message is a kind: its JSON has apiVersion and kind."""
    return name in _kinds_by_message()


@functools.lru_cache(maxsize=1024)
def message_of(api_version: str, kind: str) -> Message | None:
    """The message of a kind; None if the table does not have it."""
    if kind in _OF_EVERY_VERSION or (kind in _OF_META and api_version == "v1"):
        return message(f"meta.v1.{kind}")
    if (api_version, kind) == ("v1", "List"):
        return message("core.v1.List")
    if kind in _PARTIAL and api_version == "meta.k8s.io/v1":
        return message(f"meta.v1.{kind}")
    found = _messages_of_kinds().get((api_version, kind))
    return None if found is None else message(found)
