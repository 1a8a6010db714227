"""What servers written in Go send, and what they should not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from netlab.api import decoding
from netlab.api.decoding import Unreadable
from netlab.api.discovery_types import EndpointSlice
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.resources import ENDPOINTSLICES, PODS, SERVICES, Resource

META = {"name": "a", "namespace": "default", "resourceVersion": "7", "creationTimestamp": None}


def slice_of(**changes: Any) -> dict[str, Any]:
    return {"metadata": META, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]} | changes


def read(resource: Resource[EndpointSlice], value: Any) -> EndpointSlice:
    return decoding.one(resource, msgspec.json.encode(value))


@pytest.mark.parametrize("resource", [ENDPOINTSLICES, ENDPOINTSLICES.older])
def test_an_empty_list_of_go_is_null(resource: Resource[EndpointSlice]) -> None:
    found = read(resource, slice_of(endpoints=None, ports=None))
    assert (found.endpoints, found.ports, found.key) == ([], [], "default/a")
    found = read(resource, slice_of(ports=None))
    assert found.endpoints[0].addresses == ["10.0.0.1"]


def test_an_old_slice_is_read_as_a_new_one() -> None:
    assert ENDPOINTSLICES.older is not None
    topology = {"kubernetes.io/hostname": "node-1", "topology.kubernetes.io/zone": "z", "rack": "r"}
    endpoint = {"addresses": ["10.0.0.1"], "topology": topology, "conditions": {"ready": True}}
    (found,) = read(ENDPOINTSLICES.older, slice_of(endpoints=[endpoint])).endpoints
    assert (found.nodeName, found.zone, found.deprecatedTopology) == ("node-1", "z", {"rack": "r"})
    (found,) = read(ENDPOINTSLICES.older, slice_of(endpoints=[endpoint | {"nodeName": "node-2"}])).endpoints
    assert found.nodeName == "node-2", "the field wins, which 1.20 has beside the label"
    (found,) = read(ENDPOINTSLICES.older, slice_of(endpoints=[{"addresses": ["10.0.0.1"]}])).endpoints
    assert (found.nodeName, found.zone, found.deprecatedTopology) == (None, None, None)


def test_one_object_that_cannot_be_read_costs_no_other() -> None:
    items = [slice_of(), slice_of(metadata=META | {"name": "b"}, endpoints=[{"addresses": 1}]), 3]
    body = msgspec.json.encode({"metadata": {"resourceVersion": "9", "continue": "more"}, "items": items})
    good, bad, meta = decoding.listed(ENDPOINTSLICES, body)
    assert [found.key for found in good] == ["default/a"]
    assert [found.reason for found in bad] == [
        "EndpointSlice default/b: it cannot be read: Expected `array`, got `int` - at `$.endpoints[0].addresses`",
        "EndpointSlice without a name: it cannot be read: it is not an object",
    ]
    assert (meta.resourceVersion, meta.continue_) == ("9", "more")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"items": 1}', b'{"items": [{]}'])
def test_an_answer_that_is_no_list(body: bytes) -> None:
    with pytest.raises(ApiError, match=r"^pods: "):
        decoding.listed(PODS, body)


def test_events() -> None:
    def of(kind: str, value: Any) -> tuple[str, Any]:
        return decoding.event(SERVICES, msgspec.json.encode({"type": kind, "object": value}))

    kind, service = of("ADDED", {"metadata": META})
    assert (kind, service.apiVersion, service.key) == ("ADDED", "v1", "default/a")
    kind, bookmark = of("BOOKMARK", {"metadata": {"resourceVersion": "12", "creationTimestamp": None}})
    assert (kind, bookmark.metadata.resourceVersion) == ("BOOKMARK", "12")
    kind, left = of("MODIFIED", {"metadata": META, "spec": {"ports": "all"}})
    assert (kind, isinstance(left, Unreadable), left.metadata.resourceVersion) == ("MODIFIED", True, "7")
    assert left.reason.startswith("Service default/a: it cannot be read: ")
    with pytest.raises(ApiError) as gone:
        of("ERROR", {"kind": "Status", "metadata": {}, "code": 410, "reason": "Expired", "message": "too old"})
    assert gone.value.code == 410
    with pytest.raises(ApiError, match="did not send an event"):
        decoding.event(SERVICES, b"{")


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [((), []), ((b"a\n",), [b"a"]), ((b"a\nb", b"c", b"\nd\n"), [b"a", b"bc", b"d"]), ((b"a", b"\n"), [b"a"])],
)
def test_lines_do_not_care_for_pieces(chunks: tuple[bytes, ...], lines: list[bytes]) -> None:
    async def collect() -> list[bytes]:
        return [line async for line in decoding.lines(pieces(*chunks))]

    assert asyncio.run(collect()) == lines


def test_a_stream_that_ends_in_a_line_was_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_all(*chunks: bytes) -> None:
        async for _ in decoding.lines(pieces(*chunks)):
            pass

    with pytest.raises(ApiUnavailableError):
        asyncio.run(read_all(b"a\nb"))
    monkeypatch.setattr(decoding, "LINE_LIMIT", 4)
    with pytest.raises(ApiError, match="an event of more than"):
        asyncio.run(read_all(b"abc", b"def"))


@pytest.mark.parametrize(
    ("body", "header", "code", "seconds", "message"),
    [
        (b'{"kind":"Status","code":429,"message":"slow"}', "3", 429, 3, "slow"),
        (b'{"kind":"Status","code":429,"details":{"retryAfterSeconds":5},"message":"slow"}', "3", 429, 5, "slow"),
        (b"<html>\n<body>no", "soon", 503, 0, "the API server answered 503: <html> <body>no"),
        (b"", "", 502, 0, "the API server answered 502"),
    ],
)
def test_refusals(body: bytes, header: str, code: int, seconds: int, message: str) -> None:
    error = ApiError.from_response(code, body, header)
    assert (error.code, error.retry_after, str(error)) == (code, seconds, message)
