"""SPDY/3.1 frames."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.node.server import spdy
from netlab.node.server.spdy import Data, Decoder, Encoder, GoAway, Opened, Ping, Reset, SpdyError

HEADERS = {"streamtype": "data", "port": "8080", "requestid": "0"}


def test_the_dictionary_is_that_of_the_draft() -> None:
    # As in the draft's C source: its length, and the checksum that zlib itself compares.
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


@given(st.lists(st.integers(1, 40), min_size=1))
def test_frames_are_read_however_they_are_cut(sizes: list[int]) -> None:
    encoder, decoder = Encoder(), Decoder()
    sent = (
        encoder.open(1, HEADERS)
        + encoder.data(1, b"hello")
        + encoder.open(3, HEADERS | {"streamtype": "error"})
        + encoder.data(1, b"", last=True)
        + encoder.reset(3)
        + struct.pack("!HHII", 0x8003, 6, 4, 7)
        + struct.pack("!HHIII", 0x8003, 7, 8, 0, 0)
    )
    events: list[spdy.Event] = []
    at = 0
    for size in [*sizes, len(sent)]:
        events += decoder.feed(sent[at : at + size])
        at += size
    assert events == [
        Opened(1, HEADERS),
        Data(1, b"hello", last=False),
        Opened(3, HEADERS | {"streamtype": "error"}),
        Data(1, b"", last=True),
        Reset(3),
        Ping(struct.pack("!HHII", 0x8003, 6, 4, 7)),
        GoAway(),
    ]


def test_a_reply_leaves_the_headers_readable() -> None:
    encoder, decoder = Encoder(), Decoder()
    assert list(decoder.feed(encoder.reply(1) + encoder.open(2, HEADERS))) == [Opened(2, HEADERS)]


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (struct.pack("!HHI", 0x8002, 1, 0), "version 2"),
        (struct.pack("!HHI", 0x8003, 1, 0x00FFFFFF), "too long"),
        (struct.pack("!HHIIIH", 0x8003, 1, 14, 1, 0, 0) + b"nope", "cannot be read"),
        (
            struct.pack("!HHIIIH", 0x8003, 1, 10 + len(bomb), 1, 0, 0) + bomb
            if (compressor := zlib.compressobj(zdict=spdy.DICTIONARY))
            and (bomb := compressor.compress(b"\0" * 10_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))
            else b"",
            "more than",
        ),
    ],
    ids=["version", "length", "garbage", "bomb"],
)
def test_what_is_no_spdy_is_refused(frame: bytes, wrong: str) -> None:
    with pytest.raises(SpdyError, match=wrong):
        list(Decoder().feed(frame))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(SpdyError):
        list(Decoder().feed(data))
