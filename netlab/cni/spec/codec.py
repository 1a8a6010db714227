"""JSON without the regular expressions that importing the json package compiles.

`import json` doubles an interpreter's start-up time (13 ms on top of 11 ms, Python 3.11), which is more than everything
else that a plugin does; the C scanner beneath it can be had without. The encoder is written out: a result is small.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs as much as json
    from typing import Any

    Object = dict[str, Any]

_SPACE = " \t\r\n"


class _Options:
    """What json.JSONDecoder hands to the scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")


_scan = make_scanner(_Options())  # type: ignore[arg-type]  # typeshed takes the context for the scanner itself


def loads(text: bytes) -> Any:
    """The value of a JSON document in UTF-8. Raises `ValueError` that says what is wrong and where."""
    document = text.decode().strip(_SPACE)
    if not document:
        raise ValueError("it is empty")
    try:
        value, end = _scan(document, 0)
    except StopIteration as stop:
        raise ValueError(f"no value at character {stop.value}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except SystemError:
        # Malformed. Before Python 3.13 the scanner takes the class of its error from json.decoder, and has none unless
        # that is imported (raise_errmsg in Modules/_json.c): it says what is wrong when asked again.
        import json.decoder  # noqa: F401

        value, end = _scan(document, 0)
    if end != len(document):
        raise ValueError(f"unexpected text after the value, at character {end}")
    return value


def dumps(value: Any) -> str:
    """The JSON text of dicts with string keys, lists, strings, numbers, booleans and None."""
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_basestring_ascii(key)}:{dumps(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    return repr(value)
