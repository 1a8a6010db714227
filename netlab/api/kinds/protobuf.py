"""Kubernetes' protobuf: between the JSON values that the server works with and the wire.

An object is four bytes and a runtime.Unknown, which has the object's kind and its bytes. The messages are made from the
table when the first one is needed; a field that was not sent differs in them from a zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError
from msgspec import MsgspecError

from netlab.api.kinds import table
from netlab.api.kinds.forms import ABSENT, FORMS, MAGIC, Convert, Form, check_number, read_bytes, write_bytes

_PACKAGE = "kinds"

_Type = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "string": _Type.TYPE_STRING,
    "bytes": _Type.TYPE_BYTES,
    "bool": _Type.TYPE_BOOL,
    "int32": _Type.TYPE_INT32,
    "int64": _Type.TYPE_INT64,
    "double": _Type.TYPE_DOUBLE,
}


class MalformedError(ValueError):
    """The bytes are no object; the message says why."""


class UnencodableError(ValueError):
    """The object cannot be written as protobuf: the table does not have its kind, or a value is not of its type."""


def decode(body: bytes) -> dict[str, Any]:
    """An object as JSON values. Raises `MalformedError`."""
    try:
        return _read_whole(body)
    except DecodeError as error:
        # The library names its own message first.
        raise MalformedError(str(error).rpartition(": ")[2]) from None
    except (MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise MalformedError(str(error)) from None


def encode(obj: dict[str, Any]) -> bytes:
    """An object on the wire. Raises `UnencodableError`."""
    api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
    found = table.message_of(api_version, kind)
    if found is None:
        raise UnencodableError(f"{kind} of {api_version} has no form in protobuf")
    unknown = _new("runtime.Unknown")
    unknown.f1.f1, unknown.f1.f2 = api_version, kind
    unknown.f2 = _bytes_of(found.name, obj)
    return MAGIC + _serialized(unknown)


def encode_event(event: dict[str, Any]) -> bytes:
    """An event of a watch (its `type`, and the `object` as JSON values) on the wire, with its length before it."""
    message = _new("meta.v1.WatchEvent")
    message.f1 = event["type"]
    message.f2.f1 = encode(event["object"])
    data = _serialized(message)
    return len(data).to_bytes(4, "big") + data


def _read_whole(body: bytes) -> dict[str, Any]:
    if not body.startswith(MAGIC):
        raise MalformedError("it does not begin with the four bytes k8s\\0")
    unknown = _new("runtime.Unknown")
    unknown.MergeFromString(body[len(MAGIC) :])
    api_version, kind, encoding = unknown.f1.f1, unknown.f1.f2, unknown.f3
    if encoding:
        raise MalformedError(f'its content is encoded as "{encoding[:64]}"')
    found = table.message_of(api_version, kind)
    if found is None:
        raise MalformedError(f'there is no kind "{kind[:64]}" in version "{api_version[:64]}"')
    message = _new(found.name)
    message.MergeFromString(unknown.f2)
    return {"apiVersion": api_version, "kind": kind, **_CONVERT.read(found.name, message)}


def _bytes_of(name: str, value: dict[str, Any]) -> bytes:
    message = _new(name)
    try:
        _CONVERT.write(name, value, message)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnencodableError(f"a value is not of its type: {error}") from None
    return _serialized(message)


def _serialized(message: Any) -> bytes:
    try:
        data: bytes = message.SerializeToString(deterministic=True)
    except EncodeError as error:
        raise UnencodableError(str(error)) from None
    return data


# --- values --------------------------------------------------------------------------------------------------------

_Read = Callable[[Any, dict[str, Any]], None]
_Write = Callable[[Any, Any], None]


class _Codec(Convert):
    """Reads and writes messages by functions that are made for each field of the table when a message is first met."""

    def read(self, name: str, message: Any) -> dict[str, Any]:
        obj: dict[str, Any] = {}
        readers = _readers(name)
        for descriptor, value in message.ListFields():
            readers[descriptor.number](value, obj)
        return obj

    def write(self, name: str, value: Any, message: Any) -> None:
        writers = _writers(name)
        for field, item in value.items():
            if item is not None and field in writers:
                writers[field](item, message)

    def read_whole(self, data: bytes) -> Any:
        return _read_whole(data)


_CONVERT = _Codec()


@functools.cache
def _readers(name: str) -> dict[int, _Read]:
    return {field.number: _reader(field) for field in table.message(name).own}


def _reader(field: table.Field) -> _Read:
    name, convert = field.name, _reads(field.type)
    if not name:

        def read_into(value: Any, obj: dict[str, Any]) -> None:
            obj.update(convert(value))

        return read_into
    if field.repeated:

        def read_list(value: Any, obj: dict[str, Any]) -> None:
            obj[name] = [convert(item) for item in value]

        return read_list
    if field.mapped:

        def read_map(value: Any, obj: dict[str, Any]) -> None:
            obj[name] = {key: convert(value[key]) for key in value}

        return read_map
    form = FORMS.get(field.type)
    keep_zero = field.pointer or field.required

    def read(value: Any, obj: dict[str, Any]) -> None:
        item = convert(value)
        if item is ABSENT or (not keep_zero and (form.is_zero(item) if form else not item)):
            return
        obj[name] = item

    return read


def _reads(kind: str) -> Callable[[Any], Any]:
    if form := FORMS.get(kind):
        return lambda value: form.read(value, _CONVERT)
    if kind == "bytes":
        return read_bytes
    if kind == "double":
        return check_number
    if kind in table.SCALARS:
        return lambda value: value
    return lambda value: _CONVERT.read(kind, value)


@functools.cache
def _writers(name: str) -> dict[str, _Write]:
    return dict(_fields(name))


def _fields(name: str) -> Iterator[tuple[str, _Write]]:
    for field in table.message(name).own:
        if field.name:
            yield field.name, _writer(field)
        else:
            for inner, write in _writers(field.type).items():
                yield inner, _within(f"f{field.number}", write)


def _within(attribute: str, write: _Write) -> _Write:
    return lambda value, message: write(value, getattr(message, attribute))


def _writer(field: table.Field) -> _Write:
    attribute = f"f{field.number}"
    if field.type in table.SCALARS:
        scalar: Callable[[Any], Any] = write_bytes if field.type == "bytes" else lambda value: value
        if field.repeated:
            return lambda value, message: getattr(message, attribute).extend(map(scalar, value))
        if field.mapped:
            return lambda value, message: getattr(message, attribute).update(
                {key: scalar(item) for key, item in value.items()}
            )
        return lambda value, message: setattr(message, attribute, scalar(value))
    fill = _fills(field.type)
    if field.repeated:

        def write_list(value: Any, message: Any) -> None:
            items = getattr(message, attribute)
            for item in value:
                fill(item, items.add())

        return write_list
    if field.mapped:

        def write_map(value: Any, message: Any) -> None:
            items = getattr(message, attribute)
            for key, item in value.items():
                fill(item, items[key])

        return write_map

    def write(value: Any, message: Any) -> None:
        inner = getattr(message, attribute)
        inner.SetInParent()
        fill(value, inner)

    return write


def _fills(kind: str) -> _Write:
    form: Form | None = FORMS.get(kind)
    if form is not None:
        return lambda value, message: form.write(value, message, _CONVERT)
    return lambda value, message: _CONVERT.write(kind, value, message)


# --- descriptors ---------------------------------------------------------------------------------------------------


def _new(name: str) -> Any:
    return _class(name)()


@functools.cache
def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{_identifier(name)}"))


def _identifier(name: str) -> str:
    return name.replace(".", "_")


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="kinds.proto", package=_PACKAGE, syntax="editions")
    # As proto2, but texts have to be UTF-8.
    file.edition = descriptor_pb2.EDITION_2023
    file.options.features.repeated_field_encoding = descriptor_pb2.FeatureSet.EXPANDED
    for name in table.names():
        described = file.message_type.add(name=_identifier(name))
        for field in table.message(name).own:
            _describe(described, field)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _describe(message: descriptor_pb2.DescriptorProto, field: table.Field) -> None:
    described = message.field.add(name=f"f{field.number}", number=field.number, label=_Type.LABEL_OPTIONAL)
    if field.repeated or field.mapped:
        described.label = _Type.LABEL_REPEATED
    if not field.mapped:
        _set_type(described, field.type)
        return
    # What protoc makes of a map: a list of a message with a key and a value, whose name follows from the field's.
    entry = message.nested_type.add(name=f"F{field.number}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Type.LABEL_OPTIONAL, type=_Type.TYPE_STRING)
    _set_type(entry.field.add(name="value", number=2, label=_Type.LABEL_OPTIONAL), field.type)
    described.type = _Type.TYPE_MESSAGE
    described.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"


def _set_type(described: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        described.type = _SCALARS[kind]
    else:
        described.type = _Type.TYPE_MESSAGE
        described.type_name = f".{_PACKAGE}.{_identifier(kind)}"
