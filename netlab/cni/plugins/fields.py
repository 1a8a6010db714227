"""Fields of a configuration, of the type that each must have."""

from __future__ import annotations

from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, parse_address, parse_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than the rest of an ADD
    from collections.abc import Iterator
    from typing import Any

    from netlab.cni.spec.codec import Object

_KINDS = {str: "a string", int: "a number", bool: "true or false", list: "a list", dict: "an object"}


def option(config: Object, key: str, kind: type, default: Any, path: str = "") -> Any:
    """A field of the configuration; `path` leads to its object, for the error. Raises `CniError`."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise errors.invalid_config(f"{path}{key}: {value!r} must be {_KINDS[kind]}")
    if isinstance(value, str) and not value.isprintable():  # no system call takes a NUL or half a character
        raise errors.invalid_config(f"{path}{key}: {value!r} must have printable characters only")
    return value


def strings(config: Object, key: str, path: str = "") -> list[str]:
    """A field of the configuration that is a list of strings; empty without it. Raises `CniError`."""
    values: list[str] = option(config, key, list, [], path)
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.isprintable():
            raise errors.invalid_config(f"{path}{key}[{number}]: {value!r} must be a printable string")
    return values


def objects(config: Object, key: str, path: str = "") -> Iterator[tuple[str, Object]]:
    """The objects of a field that is a list of them, each with the path that leads to it. Raises `CniError`."""
    for number, value in enumerate(option(config, key, list, [], path)):
        where = f"{path}{key}[{number}]"
        if not isinstance(value, dict):
            raise errors.invalid_config(f"{where}: {value!r} must be an object")
        yield where, value


def absolute_path(config: Object, key: str, path: str, default: str = "") -> str:
    """A file or folder; a relative one would depend on who runs this, the caller or `serve`. Raises `CniError`."""
    found: str = option(config, key, str, "", path) or default
    if found and not found.startswith("/"):
        raise errors.invalid_config(f"{path}{key}: {found!r} must be an absolute path")
    return found


def address(text: str, path: str) -> tuple[int, int]:
    """An address as an integer, and its number of bits; `path` names the field. Raises `CniError`."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise errors.invalid_config(f"{path}: {error}") from error


def prefix(text: str, path: str) -> Prefix:
    """An address with its prefix's length; `path` names the field. Raises `CniError`."""
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise errors.invalid_config(f"{path}: {error}") from error
