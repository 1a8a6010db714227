"""What another server says of its API: read from its answers, of which nothing is taken for granted."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from netlab.api.kinds import openapi_wire
from netlab.api.meta_types import Struct
from netlab.api.server.objects.schema import JSONObject


class _Entry(Struct):
    """metav1.APIResource."""

    name: str
    singularName: str = ""  # noqa: N815
    namespaced: bool = False
    group: str = ""
    version: str = ""
    kind: str = ""
    verbs: list[str] = []
    shortNames: list[str] = []  # noqa: N815
    categories: list[str] = []


class _List(Struct):
    """metav1.APIResourceList."""

    resources: list[_Entry]


class _Address(Struct):
    serverRelativeURL: str  # noqa: N815


class _Index(Struct):
    paths: dict[str, _Address]


def resources(raw: bytes, group: str, version: str) -> tuple[JSONObject, ...]:
    """An APIResourceList in the form of aggregated discovery. Raises `msgspec.MsgspecError` and `UnicodeError`."""
    found: dict[str, JSONObject] = {}
    parts: list[_Entry] = []
    for entry in msgspec.json.decode(raw, type=_List).resources:
        if "/" in entry.name:
            parts.append(entry)
            continue
        found[entry.name] = {
            "resource": entry.name,
            "responseKind": _kind(entry, group, version),
            "scope": "Namespaced" if entry.namespaced else "Cluster",
            "singularResource": entry.singularName,
            "verbs": entry.verbs,
        }
        names = {"shortNames": entry.shortNames, "categories": entry.categories}
        found[entry.name] |= {key: value for key, value in names.items() if value}
    for entry in parts:
        whole, _, part = entry.name.partition("/")
        if whole in found:
            listed = found[whole].setdefault("subresources", [])
            kind = _kind(entry, group, version)
            listed.append({"subresource": part, "responseKind": kind, "verbs": entry.verbs})
    return tuple(found.values())


def _kind(entry: _Entry, group: str, version: str) -> JSONObject:
    if not entry.version:
        return {"group": group, "version": version, "kind": entry.kind}
    return {"group": entry.group, "version": entry.version, "kind": entry.kind}


def digest(raw: bytes, path: str) -> str:
    """The hash of a document in an index of OpenAPI 3; empty if it is not there. Raises as `resources`."""
    address = msgspec.json.decode(raw, type=_Index).paths.get(path)
    return parse_qs(urlsplit(address.serverRelativeURL).query).get("hash", [""])[0] if address is not None else ""


def swagger(raw: bytes, path: str) -> JSONObject:
    """What a document of OpenAPI 2 has below a path. Raises as `resources`, and `ValueError` if it makes no sense."""
    document: Any = msgspec.json.decode(raw)
    try:
        paths = {each: what for each, what in document["paths"].items() if f"{each}/".startswith(f"/{path}/")}
        found = {"paths": paths, "definitions": dict(document.get("definitions", {}))}
        openapi_wire.encode({"swagger": "2.0", "info": {"title": "", "version": ""}} | found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no document of OpenAPI 2: {error}") from None
    return found
