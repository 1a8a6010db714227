"""The messages for elements of nftables sets: their bytes, their lengths, and what is read back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.net.netlink import attributes
from netlab.net.nftables import elements
from netlab.net.nftables.elements import Element, Set, Verdict, concatenated

PORTS = Set("inet", "t", "ports")

chains = st.text("abcdefgh-0123456789", min_size=1, max_size=31)
verdicts = st.one_of(
    st.sampled_from([elements.accept(), elements.drop()]),
    st.builds(elements.jump, chains),
    st.builds(elements.goto, chains),
)
keys = st.binary(min_size=1, max_size=48)
made = st.builds(
    Element,
    keys,
    st.one_of(st.binary(max_size=48), verdicts),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=128).filter(
        lambda s: len(s.encode()) < 128
    ),
    st.one_of(st.just(b""), keys),
)


def unpacked(payload: bytes) -> list[Element]:
    found = dict(attributes(payload, 4))
    assert found[1] == b"t\0"
    assert found[2] == b"ports\0"
    return [elements._unpack(item) for _, item in attributes(found[3])]


@given(st.lists(made, min_size=1, max_size=5))
def test_what_is_added_reads_back(given_ones: list[Element]) -> None:
    (message,) = elements.addition(PORTS, given_ones)
    assert unpacked(message.payload) == given_ones


def test_a_deletion_names_keys_alone() -> None:
    (message,) = elements.deletion(PORTS, [Element(b"key1", b"data", "who", b"key2")])
    assert unpacked(message.payload) == [Element(b"key1", key_end=b"key2")]


@pytest.mark.parametrize(("exclusive", "flags"), [(True, 0x600), (False, 0x400)])
def test_flags_say_whether_an_element_may_be_there(exclusive: bool, flags: int) -> None:
    (message,) = elements.addition(PORTS, [Element(b"key1")], exclusive=exclusive)
    assert (message.kind, message.flags) == (10 << 8 | 12, flags)


def test_no_elements_are_no_message() -> None:
    assert elements.addition(PORTS, []) == []


def test_a_list_longer_than_an_attribute_becomes_several_messages() -> None:
    many = [Element(struct.pack("!I", number), comment="c" * 127) for number in range(2000)]
    messages = elements.addition(PORTS, many)
    assert [element for message in messages for element in unpacked(message.payload)] == many
    assert len(messages) > 1
    for message in messages:
        assert struct.unpack_from("=H", message.payload, 4 + 8 + 12)[0] > 60000 or message is messages[-1]


def test_the_parts_of_a_concatenation_fill_registers() -> None:
    assert concatenated(b"\x06", b"\x1f\x90", bytes([10, 0, 0, 1])) == bytes.fromhex("06000000 1f900000 0a000001")


def test_verdicts_are_values() -> None:
    assert elements.jump("a") == Verdict(-3, "a") != elements.goto("a")
    assert {elements.drop(), Verdict(0)} == {elements.drop()}
    assert [repr(v) for v in (elements.accept(), elements.goto("x"))] == ["accept", "goto x"]
    assert repr(Element(b"\1", b"\2", "c", b"\3")) == "<01-03 'c': 02>"
