"""An OpenAPI 2 document as protobuf: the message openapi.v2.Document of gnostic, by which kubectl reads it.

Only the fields that our documents have, with their numbers in gnostic's OpenAPIv2.proto. A union there is a message
with one field for each of its cases; what a document has by name is a list of names and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

_Document = Mapping[str, Any]

_EXTENSION = "x-"


def encode(document: _Document) -> bytes:
    """The bytes of the message."""
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _field(2, _text(1, info["title"]) + _text(2, info["version"])),
            _field(8, _named(2, document["paths"], _path_item)),
            _field(9, _named(1, document["definitions"], _schema)),
        )
    )


# --- paths ---------------------------------------------------------------------------------------------------------

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


def _path_item(item: _Document) -> bytes:
    operations = (_field(_METHODS[name], _operation(each)) for name, each in item.items() if name in _METHODS)
    return b"".join((*operations, *(_field(9, _parameter(each)) for each in item.get("parameters", ()))))


def _operation(operation: _Document) -> bytes:
    responses = {code: _field(1, _response(each)) for code, each in operation["responses"].items()}
    return b"".join(
        (
            _text(5, operation["operationId"]),
            *(_text(6, each) for each in operation["produces"]),
            *(_text(7, each) for each in operation["consumes"]),
            *(_field(8, _parameter(each)) for each in operation["parameters"]),
            _field(9, _named(1, responses, bytes)),
            _extensions(13, operation),
        )
    )


def _response(response: _Document) -> bytes:
    return _text(1, response["description"]) + _field(2, _field(1, _schema(response["schema"])))


def _parameter(parameter: _Document) -> bytes:
    """A ParametersItem: a Parameter, with a body, or without one in the path or the query."""
    described = (parameter["name"], parameter["in"], parameter.get("description", ""))
    name, place, text = described
    required = bool(parameter.get("required"))
    if place == "body":
        body = _text(1, text) + _text(2, name) + _text(3, place) + _flag(4, required)
        return _field(1, _field(1, body + _field(5, _schema(parameter["schema"]))))
    is_path = place == "path"
    inner = _flag(1, required) + _text(2, place) + _text(3, text) + _text(4, name)
    # A query's parameter has allowEmptyValue before its type.
    inner += _text(5 if is_path else 6, parameter["type"])
    inner += _flag(19 if is_path else 20, bool(parameter.get("uniqueItems")))
    return _field(1, _field(2, _field(4 if is_path else 3, inner)))


# --- schemas -------------------------------------------------------------------------------------------------------


def _schema(schema: _Document) -> bytes:
    parts = [
        _text(1, schema.get("$ref", "")),
        _text(2, schema.get("format", "")),
        _text(4, schema.get("description", "")),
    ]
    parts += [_text(19, each) for each in schema.get("required", ())]
    if "additionalProperties" in schema:
        parts.append(_field(21, _additional(schema["additionalProperties"])))
    if "type" in schema:
        parts.append(_field(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_field(23, _field(1, _schema(schema["items"]))))
    if "properties" in schema:
        parts.append(_field(25, _named(1, schema["properties"], _schema)))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _additional(value: _Document | bool) -> bytes:
    return _varint(2 << 3) + bytes([value]) if isinstance(value, bool) else _field(1, _schema(value))


def _extensions(number: int, described: _Document) -> bytes:
    """Every x-..., as a NamedAny: an Any with the value as YAML, of which JSON is a part."""
    extensions = {name: value for name, value in described.items() if name.startswith(_EXTENSION)}
    return _named(number, extensions, lambda value: _text(2, msgspec.json.encode(value).decode()))


# --- the wire ------------------------------------------------------------------------------------------------------


def _named(number: int, values: Mapping[str, Any], encode_value: Callable[[Any], bytes]) -> bytes:
    pairs: Iterable[tuple[str, bytes]] = ((name, encode_value(value)) for name, value in values.items())
    return b"".join(_field(number, _text(1, name) + _field(2, value)) for name, value in pairs)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _flag(number: int, is_set: bool) -> bytes:
    return _varint(number << 3) + b"\x01" if is_set else b""


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
