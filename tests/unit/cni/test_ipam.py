"""IPAM: ranges, and the store against a model."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netlab.cni import errors, ipam
from netlab.cni.addresses import Prefix
from netlab.cni.errors import CniError
from netlab.cni.plugin import Request


def a_request(data_dir: str, container_id: str, ranges: list[list[dict[str, str]]], **more: Any) -> Request:
    config = {
        "cniVersion": "1.0.0",
        "name": "net",
        "ipam": {"type": "netlab-ipam", "dataDir": data_dir, "ranges": ranges, **more},
    }
    return Request("ADD", {"CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0"}, config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "ipam.ranges: there are none"),
        ({"ranges": [[]]}, "ipam.ranges[0]"),
        ({"ranges": ["10.0.0.0/24"]}, "ipam.ranges[0]"),
        ({"ranges": [[{}]]}, "ipam.ranges[0][0].subnet"),
        ({"ranges": [[{"subnet": 5}]]}, "ipam.ranges[0][0].subnet: 5 must be a string"),
        ({"subnet": "10.0.0.1/24"}, "ipam.subnet: '10.0.0.1/24' has host bits set; its network is 10.0.0.0"),
        ({"subnet": "10.0.0.0/31"}, "ipam.subnet: '10.0.0.0/31' is too small"),
        ({"subnet": "fd00::/127"}, "is too small; /126"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}, "ipam.rangeStart: '10.0.1.1' is not in the subnet"),
        ({"subnet": "10.0.0.0/24", "gateway": "fd00::1"}, "ipam.gateway: 'fd00::1' is not in the subnet"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}, "has no address to give"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.1"}, "has no address to give"),
        ({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}, "need a set of ranges each"),
        ({"ranges": [[{"subnet": "10.0.0.0/8"}], [{"subnet": "10.1.0.0/16"}]]}, "overlap"),
    ],
)
def test_wrong_ranges_are_refused_by_the_path_of_the_field(config: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as caught:
        ipam.parse_ranges(config)
    assert caught.value.code == errors.INVALID_CONFIG
    assert said in caught.value.msg


def test_network_gateway_and_broadcast_are_never_given() -> None:
    ((four,), (six,)) = ipam.parse_ranges({"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/126"}]]})
    given_v4 = [address for address in range(four.subnet.first, four.subnet.last + 1) if address in four]
    assert [str(ipaddress.IPv4Address(address)) for address in given_v4] == [f"10.0.0.{n}" for n in range(2, 7)]
    given_v6 = [address for address in range(six.subnet.first, six.subnet.last + 1) if address in six]
    assert [str(ipaddress.IPv6Address(address)) for address in given_v6] == ["fd00::2", "fd00::3"]
    assert (four.size, six.size) == (5, 2)


@given(st.sets(st.integers(0, 20)), st.integers(0, 20) | st.none())
def test_next_free_goes_round_through_all_ranges_and_stops(taken: set[int], last: int | None) -> None:
    subnet = Prefix(0, 24, 32)
    ranges = [ipam.Range(subnet, 2, 6, 1), ipam.Range(subnet, 10, 14, 12)]
    pool = [2, 3, 4, 5, 6, 10, 11, 13, 14]
    start = pool.index(last) + 1 if last in pool else 0
    order = pool[start:] + pool[:start]
    free = [address for address in order if address not in taken]
    found = ipam.next_free(ranges, last, taken)
    assert (found[0] if found else None) == (free[0] if free else None)


class Reservations(RuleBasedStateMachine):
    """The store against a dict, in a subnet of five addresses each of IPv4 and IPv6."""

    RANGES = [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/64", "rangeEnd": "fd00::6"}]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.held: dict[str, list[str]] = {}
        self.last: list[str] | None = None

    def teardown(self) -> None:
        self.folder.cleanup()

    def request(self, number: int) -> Request:
        return a_request(self.folder.name, f"c{number}", self.RANGES)

    @rule(number=st.integers(0, 6))
    def add(self, number: int) -> None:
        if f"c{number}" in self.held or len(self.held) == 5:
            with pytest.raises(CniError) as caught:
                ipam.add(self.request(number))
            known = f"c{number}" in self.held
            assert caught.value.code == (errors.ALREADY_RESERVED if known else errors.ADDRESSES_EXHAUSTED)
            return
        result = ipam.add(self.request(number))
        addresses = [str(ipaddress.ip_interface(ip["address"]).ip) for ip in result["ips"]]
        assert [ip["gateway"] for ip in result["ips"]] == ["10.0.0.1", "fd00::1"]
        assert not any(address in addresses for owned in self.held.values() for address in owned)
        if self.last is not None and len(self.held) < 4:
            assert addresses != self.last, "one just released is not given again at once"
        self.held[f"c{number}"] = self.last = addresses

    @rule(number=st.integers(0, 6))
    def delete(self, number: int) -> None:
        ipam.delete(self.request(number))
        self.held.pop(f"c{number}", None)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def check(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        ipam.check(self.request(int(name[1:])))

    @invariant()
    def holders_agree(self) -> None:
        found: dict[str, list[str]] = {}
        for one in ipam.holders(self.folder.name, "net"):
            found.setdefault(one.container_id, []).append(one.address)
        assert {name: sorted(owned) for name, owned in found.items()} == {
            name: sorted(owned) for name, owned in self.held.items()
        }


TestReservations = Reservations.TestCase


def test_exhaustion_says_what_and_how_many(tmp_path: Path) -> None:
    ranges = [[{"subnet": "10.0.0.0/30"}]]
    ipam.add(a_request(str(tmp_path), "one", ranges))
    with pytest.raises(CniError, match=r"network net: all 1 addresses of 10\.0\.0\.1-10\.0\.0\.2 are reserved; delete"):
        ipam.add(a_request(str(tmp_path), "two", ranges))


def test_an_add_that_cannot_have_every_family_takes_none(tmp_path: Path) -> None:
    ranges = [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/126", "rangeEnd": "fd00::2"}]]
    ipam.add(a_request(str(tmp_path), "one", ranges))
    with pytest.raises(CniError):
        ipam.add(a_request(str(tmp_path), "two", ranges))
    assert {one.container_id for one in ipam.holders(str(tmp_path), "net")} == {"one"}


def test_an_error_on_disk_takes_none_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr(ipam.Store, "set_last", full)
    with pytest.raises(OSError, match="there"):
        ipam.add(a_request(str(tmp_path), "one", [[{"subnet": "10.0.0.0/24"}]]))
    assert ipam.holders(str(tmp_path), "net") == []


@pytest.mark.parametrize("after", range(1, 5))
def test_a_kill_at_any_point_leaves_whole_reservations_which_a_delete_frees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    ranges = [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]
    child = os.fork()
    if child == 0:
        calls = 0
        make = os.symlink

        def killed(*args: Any) -> None:
            nonlocal calls
            calls += 1
            make(*args)
            if calls == after:
                os.kill(os.getpid(), 9)

        monkeypatch.setattr(os, "symlink", killed)
        ipam.add(a_request(str(tmp_path), "one", ranges))
        os._exit(0)
    os.waitpid(child, 0)
    assert all(one.container_id == "one" and one.ifname == "eth0" for one in ipam.holders(str(tmp_path), "net"))
    ipam.delete(a_request(str(tmp_path), "one", ranges))
    assert ipam.holders(str(tmp_path), "net") == []
    assert len(ipam.add(a_request(str(tmp_path), "two", ranges))["ips"]) == 2


def test_a_delete_makes_nothing(tmp_path: Path) -> None:
    ipam.delete(a_request(str(tmp_path / "none"), "one", []))
    assert list(tmp_path.iterdir()) == []


def test_routes_are_passed_on_and_checked(tmp_path: Path) -> None:
    ranges = [[{"subnet": "10.0.0.0/24"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.0.0.9"}]
    assert ipam.add(a_request(str(tmp_path), "one", ranges, routes=routes))["routes"] == routes
    with pytest.raises(CniError, match=r"ipam.routes\[0\]"):
        ipam.add(a_request(str(tmp_path), "two", ranges, routes=[{"dst": "everywhere"}]))
