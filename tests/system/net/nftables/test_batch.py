"""A whole change of a table, in one batch, against the kernel."""

from __future__ import annotations

import subprocess

import pytest

from netlab.net.netlink import NetlinkError
from netlab.net.nftables import expressions
from netlab.net.nftables.batch import Batch, Elements, Lists, Rules, listed, messages
from netlab.net.nftables.elements import Set, concatenated, drop, goto
from netlab.net.nftables.socket import Nfnetlink
from tests.sandbox import isolated

TABLE = """
table ip t {
    set hosts { type ipv4_addr
    }
    set ranges { type ipv4_addr . inet_service; flags interval
    }
    map ports { type inet_proto . inet_service : ipv4_addr . inet_service
    }
    map verdicts { type ipv4_addr : verdict
    }
    map lists { typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport
    }
    map choices { typeof meta l4proto . th dport . numgen random mod 2 : verdict
    }
}
"""
RANGES = {"ranges"}
CHAINS: dict[str, Rules] = {
    "one": [],
    "two": [[expressions.goto("one")]],
    "three": [[expressions.jump("two")], [expressions.goto("one")]],
}


def port(number: int) -> bytes:
    return concatenated(number.to_bytes(2, "big"))


def address(number: int) -> bytes:
    return bytes([10, 0, number >> 8, number & 255])


def protocol(number: int) -> bytes:
    return concatenated(bytes([number]))


MANY = range(1, 3001)
ELEMENTS: Elements = {
    "hosts": {address(number): b"" for number in MANY},
    "ranges": {address(1) + port(80): address(9) + port(80), address(1) + port(81): address(1) + port(89)},
    "ports": {protocol(6) + port(number): address(5) + port(80) for number in MANY},
    "verdicts": {address(number): goto("one") if number % 2 else drop() for number in range(9)},
}
LISTS: Lists = {
    "lists": {
        address(length) + protocol(6) + port(80): [address(number) + port(80) for number in range(length)]
        for length in (1, 1500, 3, 40)
    },
    "choices": {protocol(6) + port(80): [goto("one"), goto("two"), drop()], protocol(17) + port(80): [drop()]},
}
LISTED: Elements = {
    name: dict(element for one in lists.items() for element in listed(*one)) for name, lists in LISTS.items()
}
NOTHING: Elements = {name: {} for name in ELEMENTS | LISTED}


def held(kernel: Nfnetlink) -> Elements:
    return {name: kernel.dump(Set("ip", "t", name)) for name in (*ELEMENTS, *LISTED)}


def apply(kernel: Nfnetlink, batch: Batch) -> None:
    kernel.commit(messages("ip", "t", batch, RANGES))


def chains() -> dict[str, int]:
    """How many rules each chain has."""
    listing = subprocess.run(["nft", "list", "table", "ip", "t"], check=True, capture_output=True, text=True).stdout
    bodies = [part.partition("\n\t}")[0].splitlines() for part in listing.split("\tchain ")[1:]]
    return {lines[0].removesuffix(" {"): len(lines) - 1 for lines in bodies}


@isolated
def test_all_comes_at_once_and_goes_at_once() -> None:
    subprocess.run(["nft", "-f", "-"], input=TABLE, check=True, text=True)
    with Nfnetlink() as kernel:
        apply(kernel, Batch(come=ELEMENTS, lists_come=LISTS, chains_come=CHAINS, sets_come={"clients": (60, 100)}))
        assert held(kernel) == ELEMENTS | LISTED
        assert chains() == {"one": 0, "two": 1, "three": 2}
        apply(kernel, Batch(gone=ELEMENTS | LISTED, chains_gone=list(CHAINS), sets_gone=["clients"]))
        assert held(kernel) == NOTHING
        assert chains() == {}


@isolated
def test_elements_change_their_values_and_chains_their_rules() -> None:
    subprocess.run(["nft", "-f", "-"], input=TABLE, check=True, text=True)
    before: Elements = {"verdicts": {address(1): goto("one"), address(2): drop()}}
    after: Elements = {"verdicts": {address(1): drop(), address(2): goto("two")}}
    with Nfnetlink() as kernel:
        apply(kernel, Batch(come=before, chains_come=CHAINS))
        apply(
            kernel,
            Batch(
                gone=before,
                come=after,
                chains_mended={"one": [[expressions.jump("four")]] * 2},
                chains_come={"four": []},
            ),
        )
        assert kernel.dump(Set("ip", "t", "verdicts")) == after["verdicts"]
        assert chains() == {"one": 2, "two": 1, "three": 2, "four": 0}


@isolated
def test_nothing_of_a_batch_comes_that_the_kernel_refuses() -> None:
    subprocess.run(["nft", "-f", "-"], input=TABLE, check=True, text=True)
    with Nfnetlink() as kernel:
        with pytest.raises(NetlinkError, match="set ip t verdicts: "):
            apply(kernel, Batch(come=ELEMENTS, lists_come=LISTS))  # verdicts lead to chains that do not exist
        assert held(kernel) == NOTHING
