"""Elements of nftables sets and maps against the kernel, and against what the nft program makes and lists."""

from __future__ import annotations

import errno
import json
import subprocess
from typing import Any

import pytest

from netlab.net.netlink import Message, NetlinkError
from netlab.net.nftables import elements
from netlab.net.nftables.elements import Element, Set, addition, concatenated, deletion
from netlab.net.nftables.socket import Nfnetlink
from tests import sandbox
from tests.sandbox import isolated

TABLE = """
table inet t {
    map ports { type inet_proto . inet_service : ipv4_addr . inet_service
    }
    map sources { type ipv6_addr . inet_service : verdict; flags interval
    }
    set addresses { type ipv6_addr; elements = { fd00::1 comment "made by nft", fd00::2 }
    }
    chain c {
    }
}
"""
PORTS, SOURCES, ADDRESSES = (Set("inet", "t", name) for name in ("ports", "sources", "addresses"))
TCP = b"\x06"


def port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def mapping(number: int, address: bytes = bytes([10, 0, 0, 5]), comment: str = "net/c/eth0") -> Element:
    return Element(concatenated(TCP, port(number)), concatenated(address, port(80)), comment)


def nft(*arguments: str, text: str = "") -> str:
    return subprocess.run(["nft", *arguments], input=text, check=True, capture_output=True, text=True).stdout


def listed(name: str) -> Any:
    (found,) = (item["map"] for item in json.loads(nft("-j", "list", "map", "inet", "t", name))["nftables"][1:])
    return found.get("elem", [])


def kernel() -> Nfnetlink:
    nft("-f", "-", text=TABLE)
    return Nfnetlink()


def refused(subject: Nfnetlink, *batch: list[Message], generation: int = 0) -> NetlinkError:
    with pytest.raises(NetlinkError) as caught:
        subject.commit([message for messages in batch for message in messages], generation)
    return caught.value


@isolated
def test_nft_lists_what_was_added() -> None:
    with kernel() as subject:
        subject.commit(addition(PORTS, [mapping(8080)]))
        assert listed("ports") == [
            [
                {"elem": {"val": {"concat": ["tcp", 8080]}, "comment": "net/c/eth0"}},
                {"concat": ["10.0.0.5", 80]},
            ]
        ]
        assert subject.elements(PORTS) == [mapping(8080)]


@isolated
def test_ranges_with_verdicts() -> None:
    first, last = bytes.fromhex("fd00" + "00" * 14), bytes.fromhex("fd00" + "ff" * 14)
    whole = Element(concatenated(first, port(1)), elements.jump("c"), "x" * 128, concatenated(last, port(9)))
    with kernel() as subject:
        subject.commit(addition(SOURCES, [whole]))
        (((element), verdict),) = listed("sources")
        assert element["elem"]["val"]["concat"] == [{"prefix": {"addr": "fd00::", "len": 16}}, {"range": [1, 9]}]
        assert element["elem"]["comment"] == "x" * 128
        assert verdict == {"jump": {"target": "c"}}
        assert subject.elements(SOURCES) == [whole]
        inside = Element(whole.key, elements.drop(), key_end=whole.key)
        assert refused(subject, addition(SOURCES, [inside])).errno == errno.EEXIST
        subject.commit(deletion(SOURCES, [whole]))
        assert subject.elements(SOURCES) == []


@isolated
def test_what_nft_made_reads_back() -> None:
    with kernel() as subject:
        found = {element.key[-1]: element.comment for element in subject.elements(ADDRESSES)}
        assert found == {1: "made by nft", 2: ""}


REFUSALS = {
    "the key is there": (addition(PORTS, [mapping(1)]), errno.EEXIST),
    "with other data": (addition(PORTS, [mapping(1, bytes(4))], exclusive=False), errno.EEXIST),
    "no such set": (addition(Set("inet", "t", "none"), [mapping(3)]), errno.ENOENT),
    "no such table": (addition(Set("ip", "t", "ports"), [mapping(3)]), errno.ENOENT),
    "no such chain": (
        addition(SOURCES, [Element(bytes(20), elements.goto("none"), key_end=bytes(20))]),
        errno.ENOENT,
    ),
    "nothing to delete": (deletion(PORTS, [mapping(3)]), errno.ENOENT),
    "a key of another length": (addition(PORTS, [Element(b"\1")]), errno.EINVAL),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("position", ["first", "last"])
@isolated
def test_a_batch_is_done_as_a_whole_or_not_at_all(case: str, position: str) -> None:
    wrong, number = REFUSALS[case]
    with kernel() as subject:
        subject.commit(addition(PORTS, [mapping(1)]))
        good = addition(PORTS, [mapping(2)])
        error = refused(subject, *((wrong, good) if position == "first" else (good, wrong)))
        assert error.errno == number
        assert str(error).startswith(wrong[0].subject)
        assert subject.elements(PORTS) == [mapping(1)]
        # The socket is as good as before: no answer of the refused batch is taken for one of the next.
        subject.commit(good)


@isolated
def test_what_is_there_with_the_same_data_is_left_alone_if_asked() -> None:
    with kernel() as subject:
        subject.commit(addition(PORTS, [mapping(1, comment="first")]))
        subject.commit(addition(PORTS, [mapping(1, comment="second"), mapping(2)], exclusive=False))
        assert {element.comment for element in subject.elements(PORTS)} == {"first", "net/c/eth0"}


@isolated
def test_a_decision_taken_before_somebody_elses_change_is_refused() -> None:
    with kernel() as subject:
        seen = subject.generation()
        nft("add", "element", "inet", "t", "addresses", "{ fd00::3 }")
        assert refused(subject, addition(PORTS, [mapping(1)]), generation=seen).errno == errno.ERESTART
        assert subject.elements(PORTS) == []
        subject.commit(addition(PORTS, [mapping(1)]), subject.generation())


@isolated
def test_what_is_removed_is_what_was_looked_at() -> None:
    """Between the look and the deed the key became another's."""
    with kernel() as subject, Nfnetlink() as other:
        subject.commit(addition(PORTS, [mapping(1, comment="mine"), mapping(2, comment="mine")]))
        looks: list[Element] = []

        def unwanted(_: Set, element: Element) -> bool:
            if not looks:
                other.commit(deletion(PORTS, [mapping(1)]))
                other.commit(addition(PORTS, [mapping(1, comment="another's")]))
            looks.append(element)
            return element.comment == "mine"

        missing = Set("inet", "t", "none")
        assert subject.remove([missing, PORTS], unwanted) == [(PORTS, mapping(2, comment="mine"))]
        assert subject.elements(PORTS) == [mapping(1, comment="another's")]
        assert len(looks) == 4


@isolated
def test_a_removal_that_is_always_overtaken_gives_up() -> None:
    with kernel() as subject, Nfnetlink() as other:
        subject.commit(addition(PORTS, [mapping(1)]))
        number = iter(range(2, 1000))

        def unwanted(_: Set, element: Element) -> bool:
            if element == mapping(1):
                other.commit(addition(PORTS, [mapping(next(number))]))
            return True

        with pytest.raises(NetlinkError) as caught:
            subject.remove([PORTS], unwanted)
        assert caught.value.errno == errno.ERESTART


@isolated
def test_a_set_that_is_not_there_has_no_elements() -> None:
    with Nfnetlink() as subject, pytest.raises(NetlinkError, match="set inet t ports: ") as caught:
        subject.elements(PORTS)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("user", [False, True], ids=["as we are", "in a user namespace"])
@isolated
def test_batches_longer_than_a_message(user: bool) -> None:
    sandbox.enter(user=user)
    many = [mapping(number, comment="c" * 40) for number in range(1, 3001)]
    with kernel() as subject:
        subject.commit(addition(PORTS, many))
        assert sorted(subject.elements(PORTS), key=lambda element: element.key) == many
        subject.commit(deletion(PORTS, many))
        assert subject.elements(PORTS) == []


@isolated
def test_a_batch_longer_than_an_ordinary_users_socket_sends() -> None:
    sandbox.enter(user=True)
    with kernel() as subject:
        error = refused(subject, addition(PORTS, [mapping(number, comment="c" * 127) for number in range(1, 65536)]))
        assert error.errno == errno.EMSGSIZE
        assert "net.core.wmem_max" in str(error)


def test_without_the_privilege_the_kernel_says_so() -> None:
    try:
        with Nfnetlink() as subject:
            error = refused(subject, deletion(Set("inet", "no-such-table", "none"), [mapping(1)]))
    except PermissionError as denied:
        error = NetlinkError(denied.errno, str(denied), "")
    assert error.errno in {errno.ENOENT, errno.EPERM}


@isolated
def test_many_elements_of_several_kinds_read_back() -> None:
    first, last = bytes.fromhex("fd00" + "00" * 14), bytes.fromhex("fd00" + "ff" * 14)
    with kernel() as subject:
        assert subject.dump(ADDRESSES) == dict.fromkeys([first[:15] + b"\1", first[:15] + b"\2"], b"")
        subject.commit(
            addition(SOURCES, [Element(concatenated(first, port(1)), elements.drop(), "", concatenated(last, port(1)))])
        )
        assert subject.dump(SOURCES) == {concatenated(first, port(1)): concatenated(last, port(1))}
