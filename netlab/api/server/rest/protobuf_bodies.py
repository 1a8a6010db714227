"""Bodies and watches in protobuf, from and to the JSON that the server works with.

The library and its messages are loaded when the first client speaks protobuf: a lab's own components speak JSON.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from netlab.api.media_types import JSON
from netlab.api.server import refusals
from netlab.api.server.objects import bodies
from netlab.api.server.storage.watch import Change


def decode(body: bytes) -> Any:
    """The object as a JSON value. Raises `ApiError` (400)."""
    from netlab.api.kinds import protobuf

    try:
        written = msgspec.json.encode(protobuf.decode(body))
    except (protobuf.MalformedError, OverflowError) as error:
        raise refusals.bad_request(f"the body of the request is not valid protobuf: {error}") from None
    # Within may be JSON of any depth and with any numbers.
    return bodies.decode(written)


def encode(raw: bytes) -> bytes:
    """One object, from its JSON. Raises `ApiError` (406)."""
    from netlab.api.kinds import protobuf

    try:
        return protobuf.encode(msgspec.json.decode(raw))
    except protobuf.UnencodableError:
        raise refusals.not_acceptable((JSON,)) from None


@functools.lru_cache(maxsize=64)  # many watches see the same change
def frame(change: Change) -> bytes:
    """One event of a watch."""
    from netlab.api.kinds import protobuf

    event = {"type": change.type.decode(), "object": msgspec.json.decode(change.raw)}
    try:
        return protobuf.encode_event(event)
    except protobuf.UnencodableError:
        status = refusals.encoded(refusals.not_acceptable((JSON,)).status)
        return protobuf.encode_event({"type": "ERROR", "object": msgspec.json.decode(status)})
