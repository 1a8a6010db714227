"""BGP messages, as scapy reads them, and nonsense from the peer."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import bgp

from netlab.speaker import messages
from netlab.speaker.messages import BgpError, Open

AS = 4_200_000_001


def test_open() -> None:
    made = messages.open_message(AS, 9, "192.0.2.1")
    read = bgp.BGPHeader(made)[bgp.BGPOpen]
    assert (read.version, read.my_as, read.hold_time, read.bgp_id) == (4, 23456, 9, "192.0.2.1")
    assert messages.length_of(made[:19]) == (messages.OPEN, len(made) - 19)
    assert messages.read_open(made[19:]) == Open(AS, 9)
    assert messages.read_open(messages.open_message(64512, 0, "192.0.2.1")[19:]) == Open(64512, 0)


def test_an_open_without_capabilities_has_the_short_number() -> None:
    assert messages.read_open(struct.pack("!BHH4sB", 4, 64513, 90, b"\1\2\3\4", 0)) == Open(64513, 90)


def test_announcements_and_withdrawals_of_ipv4() -> None:
    (made,) = messages.announcements(["203.0.113.1/32", "203.0.113.0/32"], 64512, "192.0.2.1")
    # Header; nothing withdrawn; ORIGIN, AS_PATH of one four-byte number, NEXT_HOP; the prefixes in order.
    assert made[19:].hex(" ", 1) == (
        "00 00 00 14 40 01 01 00 40 02 06 02 01 00 00 fc 00 40 03 04 c0 00 02 01 20 cb 00 71 00 20 cb 00 71 01"
    )
    (gone,) = messages.withdrawals(["203.0.113.0/32"])
    assert gone[19:].hex(" ", 1) == "00 05 20 cb 00 71 00 00 00"


def test_announcements_and_withdrawals_of_ipv6() -> None:
    (made,) = messages.announcements(["2001:db8:fffe::1/128"], 64512, "2001:db8::1")
    read = bgp.BGPHeader(made)[bgp.BGPUpdate]
    (reach,) = [each.attribute for each in read.path_attr if each.type_code == 14]
    assert (reach.afi, reach.safi, reach.nh_v6_addr) == (2, 1, "2001:db8::1")
    assert [each.prefix for each in reach.nlri] == ["2001:db8:fffe::1/128"]
    (gone,) = messages.withdrawals(["2001:db8:fffe::1/128"])
    (unreach,) = [each.attribute for each in bgp.BGPHeader(gone)[bgp.BGPUpdate].path_attr]
    assert (unreach.afi, unreach.safi) == (2, 1)
    assert bytes.fromhex("80 2001 0db8 fffe 0000 0000 0000 0000 0001") in gone


@pytest.mark.parametrize("family", ["203.0.{}.{}/32", "2001:db8:fffe::{:x}:{:x}/128"])
def test_many_prefixes_are_several_messages_none_too_long(family: str) -> None:
    prefixes = [family.format(high, low) for high in range(4) for low in range(256)]
    hop = "2001:db8::1" if ":" in family else "192.0.2.1"
    for listed in (messages.announcements(prefixes, 64512, hop), messages.withdrawals(prefixes)):
        assert len(listed) > 1
        assert all(
            len(each) <= messages.LONGEST and messages.length_of(each[:19])[1] == len(each) - 19 for each in listed
        )
    assert messages.announcements([], 64512, hop) == messages.withdrawals([]) == []


@given(st.binary(min_size=10, max_size=80))
def test_nonsense_is_refused(body: bytes) -> None:
    with contextlib.suppress(BgpError):
        messages.read_open(body)
    assert "ended the session" in str(messages.read_notification(body))
    with contextlib.suppress(BgpError):
        messages.length_of((b"\xff" * 16 + body)[:19])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (bytes(16) + b"\0\x13\4", "marker"),
        (b"\xff" * 16 + b"\0\x13\x09", "type 9"),
        (b"\xff" * 16 + b"\0\x12\4", "18 bytes"),
        (b"\xff" * 16 + b"\x10\1\2", "4097 bytes"),
        (b"\xff" * 16 + b"\0\x1c\1", "28 bytes"),
    ],
)
def test_headers_that_are_none(header: bytes, words: str) -> None:
    with pytest.raises(BgpError, match=words):
        messages.length_of(header)
