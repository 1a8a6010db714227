"""Results of every version of the specification, as the newest has them and back: SPEC.md, section 5.

Inside netlab a result has the form of 1.1.0, without its `cniVersion`. What came when: `interfaces`, and `ips` as a
list, with 0.3.0; `ips[].version` went with 1.0.0; all but the address of a route's and all but the names of an
interface's fields came with 1.1.0.
"""

from __future__ import annotations

from netlab.cni.spec import errors
from netlab.cni.spec.addresses import parse_address, parse_prefix
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import LATEST, VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netlab.cni.spec.codec import Object

_READ = ("0.3.0", *VERSIONS)
_INTERFACE = {"name": str, "mac": str, "mtu": int, "sandbox": str, "socketPath": str, "pciID": str}
_NEW_OF_INTERFACE = ("mtu", "socketPath", "pciID")
_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")
_LISTS_OF_DNS = ("nameservers", "search", "options")
_LARGEST = 0xFFFFFFFF
"""Of every number in a result: what the kernel takes."""


def read(value: Any, version: str, path: str = "prevResult", code: int = errors.INVALID_CONFIG) -> Object:
    """A result as one of 1.1.0, every field of which is of its type and every index of which leads somewhere.

    `version` is that of a result that does not tell its own. `path` is what the result is, for the error, which is a
    `CniError` of `code`, or of INCOMPATIBLE_VERSION. Fields that the specification does not know stay.
    """
    try:
        return _Reader(value, version, path).result
    except ValueError as error:
        raise CniError(code, str(error)) from error


def write(result: Object, version: str) -> Object:
    """A result of 1.1.0 as one of `version`, without its `cniVersion`."""
    written = dict(result)
    if version == LATEST:
        return written
    if "interfaces" in result:
        written["interfaces"] = [_without(item, _NEW_OF_INTERFACE) for item in result["interfaces"]]
    if "routes" in result:
        written["routes"] = [_without(item, _ROUTE_NUMBERS) for item in result["routes"]]
    if version < "1.0.0" and "ips" in result:
        written["ips"] = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in result["ips"]]
    return written


def _without(item: Object, keys: tuple[str, ...]) -> Object:
    return {key: value for key, value in item.items() if key not in keys}


class _Reader:
    """Reads one result; `ValueError` names the field that is wrong."""

    def __init__(self, value: Any, version: str, path: str) -> None:
        self.result = self._object(value, path)
        own = self.result.pop("cniVersion", None) or version
        if own not in _READ:
            raise CniError(
                errors.INCOMPATIBLE_VERSION,
                f"{path}.cniVersion: {own!r} is not supported; it must be one of {', '.join(_READ)}",
            )
        for key, reader in (("interfaces", self._interface), ("ips", self._ip), ("routes", self._route)):
            if key in self.result:
                items = self._list(self.result[key], f"{path}.{key}")
                self.result[key] = [reader(item, f"{path}.{key}[{number}]") for number, item in enumerate(items)]
        if "dns" in self.result:
            self.result["dns"] = self._dns(self.result["dns"], f"{path}.dns")

    def _interface(self, value: Any, path: str) -> Object:
        item = self._object(value, path)
        for key, kind in _INTERFACE.items():
            if kind is int:
                self._number(item, key, path)
            else:
                self._text(item, key, path, required=key == "name")
        return item

    def _ip(self, value: Any, path: str) -> Object:
        item = self._object(value, path)
        item.pop("version", None)
        _prefix(self._text(item, "address", path, required=True), f"{path}.address")
        _address(self._text(item, "gateway", path), f"{path}.gateway")
        self._number(item, "interface", path)
        interfaces = self.result.get("interfaces", [])
        if item.get("interface", -1) >= len(interfaces):
            raise ValueError(f"{path}.interface: {item['interface']}: there are {len(interfaces)} interfaces")
        return item

    def _route(self, value: Any, path: str) -> Object:
        item = self._object(value, path)
        _prefix(self._text(item, "dst", path, required=True), f"{path}.dst")
        _address(self._text(item, "gw", path), f"{path}.gw")
        for key in _ROUTE_NUMBERS:
            self._number(item, key, path)
        return item

    def _dns(self, value: Any, path: str) -> Object:
        item = self._object(value, path)
        self._text(item, "domain", path)
        for key in _LISTS_OF_DNS:
            for number, text in enumerate(self._list(item.get(key, []), f"{path}.{key}")):
                if not isinstance(text, str):
                    raise ValueError(f"{path}.{key}[{number}]: {text!r} must be a string")
        return item

    @staticmethod
    def _object(value: Any, path: str) -> Object:
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {value!r} must be an object")
        return {key: item for key, item in value.items() if item is not None}

    @staticmethod
    def _list(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"{path}: {value!r} must be a list")
        return value

    @staticmethod
    def _text(item: Object, key: str, path: str, *, required: bool = False) -> str:
        text = item.get(key, "")
        if not isinstance(text, str) or not text.isprintable() or (required and not text):
            raise ValueError(f"{path}.{key}: {text!r} must be a string of printable characters")
        return text

    @staticmethod
    def _number(item: Object, key: str, path: str) -> None:
        number = item.get(key, 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _LARGEST:
            raise ValueError(f"{path}.{key}: {number!r} must be a number from 0 to {_LARGEST}")


def _prefix(text: str, path: str) -> None:
    try:
        parse_prefix(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _address(text: str, path: str) -> None:
    try:
        if text:
            parse_address(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
