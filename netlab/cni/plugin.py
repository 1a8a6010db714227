"""What every plugin shares: it reads the request, answers on standard output, and turns failures into error objects.

The checks and the codes are those of SPEC.md, sections 2 and 5. Nothing here imports more than C modules need.
"""

from __future__ import annotations

import os
import sys

from netlab.cni import codec, errors
from netlab.cni.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than the rest of an ADD
    from collections.abc import Callable, Mapping
    from typing import Any

    Object = dict[str, Any]
    Handler = Callable[["Request"], Object | None]

VERSIONS = ("0.3.1", "0.4.0", "1.0.0")
_LATEST = VERSIONS[-1]
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
}
_IFNAMSIZ = 16


class Request:
    """One execution of a plugin: what CNI_COMMAND asks for, for which interface, with which configuration."""

    __slots__ = ("args", "command", "config", "container_id", "environment", "ifname", "netns", "network", "version")

    def __init__(self, command: str, environment: Mapping[str, str], config: Object) -> None:
        self.command = command
        self.environment = environment
        self.container_id = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.ifname = environment.get("CNI_IFNAME", "")
        self.args = environment.get("CNI_ARGS", "")
        self.config = config
        self.network: str = config["name"]
        self.version: str = config["cniVersion"]


def main(handlers: Mapping[str, Handler]) -> int:
    """Answer one execution of this process on standard output; its exit status."""
    status, output = answer(handlers, os.environ, sys.stdin.buffer.read)
    sys.stdout.write(output)
    sys.stdout.flush()
    return status


def answer(
    handlers: Mapping[str, Handler], environment: Mapping[str, str], read: Callable[[], bytes]
) -> tuple[int, str]:
    """The exit status and the output of one execution. `handlers` has a function for each of ADD, DEL and CHECK.

    `read` gives the standard input. The calling thread works in the network namespace that it is in.
    """
    version = _LATEST
    try:
        command = environment.get("CNI_COMMAND", "")
        if command == "VERSION":
            return 0, _text({"cniVersion": _LATEST, "supportedVersions": list(VERSIONS)})
        if command not in handlers:
            raise CniError(
                errors.INVALID_ENVIRONMENT, f"CNI_COMMAND: {command!r} must be {', '.join(handlers)} or VERSION"
            )
        config = read_config(read())
        version = config["cniVersion"]
        check_environment(command, environment)
        if command == "CHECK" and version == "0.3.1":
            raise CniError(errors.INCOMPATIBLE_VERSION, f"cniVersion: {version}: CHECK came with 0.4.0")
        result = handlers[command](Request(command, environment, config))
        return 0, "" if result is None else _text(convert(result, version))
    except CniError as error:
        return 1, _failure(version, error)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return 1, _failure(version, CniError(errors.IO_FAILURE, what))
    except Exception as error:
        return 1, _failure(version, CniError(errors.INTERNAL, "the plugin is at fault; please report it", repr(error)))


def read_config(text: bytes) -> Object:
    """The configuration on standard input, with a valid `name` and a supported `cniVersion`. Raises `CniError`."""
    try:
        config = codec.loads(text)
    except ValueError as error:
        raise CniError(errors.DECODING_FAILURE, f"standard input is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CniError(errors.DECODING_FAILURE, "standard input is not a JSON object")
    version = config.setdefault("cniVersion", "0.1.0")
    if version not in VERSIONS:
        raise CniError(
            errors.INCOMPATIBLE_VERSION, f"cniVersion: {version!r} is not supported; take one of {', '.join(VERSIONS)}"
        )
    name = config.get("name")
    if not isinstance(name, str) or not is_identifier(name):
        raise CniError(
            errors.INVALID_CONFIG, f"name: {name!r} must be letters, digits, '_', '.' and '-', the first not a mark"
        )
    return config


def check_environment(command: str, environment: Mapping[str, str]) -> None:
    """Refuse an environment that lacks what the command needs. Raises `CniError`."""
    missing = [name for name in _REQUIRED[command] if not environment.get(name)]
    if missing:
        raise CniError(errors.INVALID_ENVIRONMENT, f"{', '.join(missing)}: {command} needs it, and it is not set")
    if not is_identifier(environment["CNI_CONTAINERID"]):
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_CONTAINERID: {environment['CNI_CONTAINERID']!r} is not a valid identifier"
        )
    ifname = environment["CNI_IFNAME"]
    if not is_interface_name(ifname):
        raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {ifname!r} is not a valid name of an interface")


def is_interface_name(text: str) -> bool:
    """Whether the kernel takes it as the name of a link: dev_valid_name() in net/core/dev.c."""
    return (
        text.isprintable()  # so that it can be encoded, too
        and 0 < len(text.encode()) < _IFNAMSIZ
        and text not in {".", ".."}
        and not any(mark in "/:" or mark.isspace() for mark in text)
    )


def is_identifier(text: str) -> bool:
    """Whether it may name a network or a container: SPEC.md's `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`."""
    body = text.replace("_", "").replace(".", "").replace("-", "")
    return text[:1].isalnum() and body.isascii() and body.isalnum()


def convert(result: Object, version: str) -> Object:
    """A result of version 1.0.0 as an older one: `ips[].version` was required before 1.0.0."""
    converted = {"cniVersion": version, **result}
    if version != _LATEST and "ips" in result:
        converted["ips"] = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in result["ips"]]
    return converted


def option(config: Object, key: str, kind: type, default: Any, path: str = "") -> Any:
    """A field of the configuration; `path` leads to its object, for the error. Raises `CniError`."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise CniError(errors.INVALID_CONFIG, f"{path}{key}: {value!r} must be {_KINDS[kind]}")
    if isinstance(value, str) and not value.isprintable():  # no system call takes a NUL or half a character
        raise CniError(errors.INVALID_CONFIG, f"{path}{key}: {value!r} must have printable characters only")
    return value


_KINDS = {str: "a string", int: "a number", bool: "true or false", list: "a list", dict: "an object"}


def _text(value: Object) -> str:
    return codec.dumps(value) + "\n"


def _failure(version: str, error: CniError) -> str:
    value: Object = {"cniVersion": version, "code": error.code, "msg": error.msg}
    if error.details:
        value["details"] = error.details
    return _text(value)
