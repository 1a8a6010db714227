"""Bodies in YAML, as those of applies: an object, or one in JSON, which is faster to read."""

from __future__ import annotations

import msgspec

from netlab.api.server import refusals
from netlab.api.server.objects import bodies
from netlab.api.server.objects.schema import JSONObject, Mode

_NOT_YAML = "error converting YAML to JSON: yaml"


def read(body: bytes, mode: Mode) -> tuple[JSONObject, tuple[str, ...]]:
    """The object, and warnings about keys that stand twice in it. Raises `ApiError` (400)."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        value, doubled = _yaml(body)
    else:
        value = bodies.decode(body)
        doubled = _yaml(body)[1] if mode is not Mode.IGNORE and bodies.duplicates(body, value) else []
    if not isinstance(value, dict):
        raise refusals.bad_request("error decoding YAML: the body of the request is not an object")
    if doubled and mode is Mode.STRICT:
        listed = "\n".join(f"  {each}" for each in doubled)
        raise refusals.bad_request(f"error strict decoding YAML: {_NOT_YAML}: unmarshal errors:\n{listed}")
    return value, tuple(doubled if mode is Mode.WARN else ())


def _yaml(body: bytes) -> tuple[object, list[str]]:
    from netlab.api import documents  # Most clients send JSON.

    try:
        value, doubled = documents.first(body.decode())
    except ValueError as error:
        raise refusals.bad_request(f"error decoding YAML: {_NOT_YAML}: {error}") from None
    return value, [f'line {line}: key "{name}" already set in map' for line, name in doubled]
