"""What each command does beside choosing an address, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.ipam import audit, commands, store
from netlab.cni.plugins.ipam.listing import RangeSet, networks
from netlab.cni.plugins.ipam.resolvconf import parse_resolv_conf
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.unit.cni.plugins.ipam.asking import V4, V6, addresses, ask


def holders(data_dir: Path) -> dict[str, str]:
    return {one.address: one.container_id for one in store.holders(str(data_dir), "net")}


def refused(request: Any, code: int) -> str:
    with pytest.raises(CniError) as caught:
        commands.HANDLERS[request.command](request)
    assert caught.value.code == code
    assert "\n" not in caught.value.msg
    return caught.value.msg


def test_an_exhausted_range_says_which_how_many_and_who(tmp_path: Path) -> None:
    ranges = [[{"subnet": "10.0.0.0/29"}]]
    for name in "abcd":
        commands.add(ask(tmp_path, name, ranges=ranges))
    (tmp_path / "net" / "10.0.0.6").write_text("somebody else's\n")
    said = refused(ask(tmp_path, "f", ranges=ranges), errors.ADDRESSES_EXHAUSTED)
    assert said == (
        "network net: all 5 addresses of 10.0.0.1-10.0.0.6 are reserved (10.0.0.2 by eth0 of a, 10.0.0.3 by eth0 of b,"
        f" 10.0.0.4 by eth0 of c, 10.0.0.5 by eth0 of d, 10.0.0.6 by the file {tmp_path}/net/10.0.0.6);"
        " `netlab cni ipam list` shows who holds them; delete containers or widen ipam.ranges"
    )
    assert refused(ask(tmp_path, command="STATUS", ranges=ranges), errors.NOT_AVAILABLE) == said


def test_an_add_that_cannot_have_every_family_takes_none(tmp_path: Path) -> None:
    ranges = [V4, [{"subnet": "fd00::/126", "rangeEnd": "fd00::2"}]]
    commands.add(ask(tmp_path, "one", ranges=ranges))
    refused(ask(tmp_path, "two", ranges=ranges), errors.ADDRESSES_EXHAUSTED)
    assert set(holders(tmp_path).values()) == {"one"}


REQUESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "outside": ({"runtimeConfig": {"ips": ["10.9.0.1"]}}, errors.UNSUPPORTED_FIELD, "ips: '10.9.0.1' is in none of"),
    "gateway": ({"args": {"cni": {"ips": ["10.0.0.1"]}}}, errors.UNSUPPORTED_FIELD, "is the gateway of 10.0.0.0/24"),
    "excluded": ({"runtimeConfig": {"ips": ["10.0.0.9/24"]}}, errors.UNSUPPORTED_FIELD, "is excluded from 10.0.0.1-"),
    "network": ({"runtimeConfig": {"ips": ["10.0.0.0"]}}, errors.UNSUPPORTED_FIELD, "is in none of the ranges"),
    "broadcast": ({"runtimeConfig": {"ips": ["10.0.0.255"]}}, errors.UNSUPPORTED_FIELD, "is in none of the ranges"),
    "two of one set": (
        {"runtimeConfig": {"ips": ["10.0.0.5", "10.0.0.6"]}},
        errors.UNSUPPORTED_FIELD,
        "'10.0.0.6' and '10.0.0.5' are in one range set",
    ),
    "held": ({"runtimeConfig": {"ips": ["10.0.0.2"]}}, errors.ALREADY_RESERVED, "held by eth0 of container first"),
    "a file": ({"runtimeConfig": {"ips": ["10.0.0.7"]}}, errors.ALREADY_RESERVED, "held by the file /"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_an_address_asked_for_that_cannot_be_had_is_refused(tmp_path: Path, case: str) -> None:
    more, code, said = REQUESTS[case]
    ranges = [[{"subnet": "10.0.0.0/24", "exclude": ["10.0.0.8/29"]}], V6]
    commands.add(ask(tmp_path, "first", ranges=ranges))
    (tmp_path / "net" / "10.0.0.7").write_text("of host-local\r\neth0")
    assert said in refused(ask(tmp_path, "second", ranges=ranges, more=more), code)
    assert set(holders(tmp_path).values()) == {"first"}


def test_addresses_asked_for_are_given_in_their_families(tmp_path: Path) -> None:
    more = {"runtimeConfig": {"ips": ["fd00::0:99/64", "10.0.0.50"]}}
    result = commands.add(ask(tmp_path, ranges=[V4, V6], more=more))
    assert [ip["address"] for ip in result["ips"]] == ["10.0.0.50/24", "fd00::99/64"]
    assert addresses(commands.add(ask(tmp_path, "two", args="IP=10.0.0.77"))) == ["10.0.0.77"]
    assert addresses(commands.add(ask(tmp_path, "three"))) == ["10.0.0.78"], "the next one in turn"


POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}"


def test_a_pod_that_comes_again_gets_its_addresses_while_they_are_free(tmp_path: Path) -> None:
    def start(container_id: str, pod: str) -> list[str]:
        args = POD.format(pod)
        return addresses(commands.add(ask(tmp_path, container_id, ranges=[V4, V6], args=args, sticky=True)))

    def stop(container_id: str) -> None:
        commands.delete(ask(tmp_path, container_id, command="DEL"))

    first = start("a1", "db-0")
    stop("a1")
    assert start("b1", "web") == ["10.0.0.3", "fd00::3"]
    assert start("a2", "db-0") == first == ["10.0.0.2", "fd00::2"]
    stop("a2")
    asked = ask(tmp_path, "c", ranges=[V4, V6], more={"runtimeConfig": {"ips": ["10.0.0.2"]}})
    assert addresses(commands.add(asked)) == ["10.0.0.2", "fd00::4"]
    assert start("a3", "db-0") == ["10.0.0.4", "fd00::2"], "only what is free"
    stop("a3")
    assert start("a4", "db-0") == ["10.0.0.4", "fd00::2"], "what it had last"


def test_a_container_without_a_pod_is_known_by_its_id(tmp_path: Path) -> None:
    before = addresses(commands.add(ask(tmp_path, "one", sticky=True)))
    commands.delete(ask(tmp_path, "one", command="DEL"))
    assert addresses(commands.add(ask(tmp_path, "two", sticky=True))) != before
    assert addresses(commands.add(ask(tmp_path, "one", sticky=True))) == before


@pytest.mark.parametrize("name", ["with space", "\udcff", "x" * 3000])
def test_a_strange_name_of_a_pod_harms_nobody(tmp_path: Path, name: str) -> None:
    for number in range(2):
        result = commands.add(ask(tmp_path, f"c{number}", args=POD.format(name), sticky=True))
        assert addresses(result) == [f"10.0.0.{2 + number}"]


def test_routes_are_passed_on_and_checked(tmp_path: Path) -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.0.0.9", "mtu": 1400, "table": 5, "scope": 253}]
    assert commands.add(ask(tmp_path, routes=routes))["routes"] == routes
    assert "routes" not in commands.add(ask(tmp_path, "two"))
    for wrong, said in (
        ("10.0.0.0/8", "ipam.routes[0]: '10.0.0.0/8' must be an object"),
        ({"dst": "everywhere"}, "ipam.routes[0].dst: 'everywhere'"),
        ({"dst": "10.0.0.0/8", "gw": "x"}, "ipam.routes[0].gw: 'x'"),
        ({"dst": "10.0.0.0/8", "gw": False}, "ipam.routes[0].gw: False must be a string"),
        ({"dst": "10.0.0.0/8", "mtu": 1 << 32}, "ipam.routes[0].mtu: 4294967296 must be a number"),
        ({"dst": "10.0.0.0/8", "mtu": "big"}, "ipam.routes[0].mtu: 'big' must be a number"),
        ({"dst": "10.0.0.0/8", "table": -1}, "ipam.routes[0].table: -1 must be a number from 0 to 4294967295"),
    ):
        assert said in refused(ask(tmp_path, "three", routes=[wrong]), errors.INVALID_CONFIG)


def test_resolv_conf_becomes_the_results_dns(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# a comment\n; another\nnameserver 10.0.0.53\nnameserver fd00::53 # two\ndomain lab\nsearch a b\n")
    dns = commands.add(ask(tmp_path, resolvConf=str(file)))["dns"]
    assert dns == {"nameservers": ["10.0.0.53", "fd00::53"], "domain": "lab", "search": ["a", "b"]}
    assert parse_resolv_conf("options ndots:5\nsearch a\noptions edns0\nsearch b\nnameserver\n") == {
        "options": ["ndots:5", "edns0"],
        "search": ["a", "b"],
    }
    said = refused(ask(tmp_path, "two", resolvConf=str(tmp_path / "none")), errors.IO_FAILURE)
    assert said == f"ipam.resolvConf: {tmp_path}/none: No such file or directory"
    assert set(holders(tmp_path).values()) == {"one"}


def test_a_delete_needs_no_valid_ranges_and_makes_nothing(tmp_path: Path) -> None:
    commands.delete(ask(tmp_path / "none", command="DEL"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    commands.delete(ask(tmp_path / "file", command="DEL"))
    commands.add(ask(tmp_path, ranges=[V4, V6]))
    commands.delete(ask(tmp_path, command="DEL", ranges=["nonsense"], bootIDFile="/nonexistent"))
    assert holders(tmp_path) == {}


def test_a_delete_of_a_name_too_long_for_a_file_frees_the_nothing_it_has(tmp_path: Path) -> None:
    commands.add(ask(tmp_path))
    assert "File name too long" in refused(ask(tmp_path, "x" * 300), errors.IO_FAILURE)
    commands.delete(ask(tmp_path, "x" * 300, command="DEL"))
    assert set(holders(tmp_path).values()) == {"one"}


@pytest.mark.parametrize("key", ["dataDir", "bootIDFile", "resolvConf"])
def test_paths_are_absolute(tmp_path: Path, key: str) -> None:
    request = ask("here") if key == "dataDir" else ask(tmp_path, **{key: "here"})  # type: ignore[arg-type]
    assert refused(request, errors.INVALID_CONFIG) == f"ipam.{key}: 'here' must be an absolute path"


def test_check_names_what_is_missing(tmp_path: Path) -> None:
    def check(*owned: str, ranges: Any = (V4, V6)) -> str:
        more = {"prevResult": {"ips": [{"address": f"{address}/24"} for address in owned]}}
        return refused(ask(tmp_path, command="CHECK", ranges=ranges, more=more), errors.CHECK_FAILED)

    folder = tmp_path / "net"
    assert "has 0 of 2 reservations" in check("10.0.0.2", "fd00::2")
    commands.add(ask(tmp_path, ranges=[V4, V6]))
    of_others = {"prevResult": {"ips": [{"address": "10.0.0.2/24"}, {"address": "172.16.0.1/24"}]}}
    audit.check(ask(tmp_path, command="CHECK", ranges=[V4, V6], more=of_others))
    assert "10.0.0.3 is missing" in check("10.0.0.3")
    assert "none of 10.1.0.1-10.1.0.254" in check(ranges=[[{"subnet": "10.1.0.0/24"}], V4])
    (folder / "10.0.0.2").unlink()
    assert check().endswith(f"has 1 of 2 reservations in {folder}: 10.0.0.2 is missing")
    (folder / "10.0.0.2").symlink_to("two/eth0")
    assert "10.0.0.2 is held by two/eth0" in check()


def test_garbage_is_whatever_no_valid_attachment_holds(tmp_path: Path) -> None:
    for name in ("kept", "stale", "half"):
        commands.add(ask(tmp_path, name))
    folder = tmp_path / "net"
    (folder / ".holders" / "half:eth0").unlink()
    (folder / "10.0.0.9").write_text("of another program")
    more = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}
    audit.collect_garbage(ask(tmp_path, command="GC", more=more))
    assert holders(tmp_path) == {"10.0.0.2": "kept"}
    assert [path.name for path in (folder / ".holders").iterdir()] == ["kept:eth0"]
    assert (folder / "10.0.0.9").exists()
    audit.collect_garbage(ask(tmp_path / "none", command="GC", more=more))
    other = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "net1"}]}
    audit.collect_garbage(ask(tmp_path, command="GC", more=other))
    assert holders(tmp_path) == {}


def test_garbage_collection_goes_on_past_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        commands.add(ask(tmp_path, name))
    unlink = os.unlink

    def fails_for_b(path: str) -> None:
        if path.endswith("10.0.0.3"):
            raise OSError(errno.EIO, "Input/output error", path)
        unlink(path)

    for module in ("os", "posix"):
        monkeypatch.setattr(f"{module}.unlink", fails_for_b)
    said = refused(ask(tmp_path, command="GC", more={"cni.dev/valid-attachments": []}), errors.IO_FAILURE)
    assert said == f"ipam.dataDir: {tmp_path}/net/10.0.0.3: Input/output error"
    assert holders(tmp_path) == {"10.0.0.3": "b"}


def test_status_needs_no_folder_and_makes_none(tmp_path: Path) -> None:
    audit.status(ask(tmp_path / "a" / "b", command="STATUS"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert "file" in refused(ask(tmp_path / "file", command="STATUS"), errors.NOT_AVAILABLE)
    refused(ask(tmp_path, command="STATUS", ranges=[]), errors.INVALID_CONFIG)


def test_the_listing_has_every_network_and_names_foreign_files(tmp_path: Path) -> None:
    commands.add(ask(tmp_path, "one", ranges=[V4, [{"subnet": "fd00::/120"}, {"subnet": "fd01::/120"}]]))
    folder = tmp_path / "net"
    (folder / "10.0.0.9").write_text("of host-local\r\neth0")
    (folder / "notes").symlink_to("one/two")
    (folder / "10.0.0.10").symlink_to("nowhere")
    (tmp_path / "other").mkdir()
    (network,) = networks(tmp_path)
    assert (network.name, network.dead) == ("net", False)
    assert [(one.address, one.container_id, one.ifname) for one in network.reservations] == [
        ("10.0.0.2", "one", "eth0"),
        ("fd00::2", "one", "eth0"),
    ]
    assert network.reservations[0].since == (folder / "10.0.0.2").lstat().st_mtime
    assert network.sets == [
        RangeSet("10.0.0.1-10.0.0.254", 253),
        RangeSet("fd00::1-fd00::ff,fd01::1-fd01::ff", 508),
    ]
    assert network.foreign == ["10.0.0.10", "10.0.0.9", "notes"]
    assert networks(tmp_path / "none") == []


def test_files_of_another_program_are_never_given(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    for number in range(2, 100):
        (folder / f"10.0.0.{number}").write_text("of host-local\r\neth0")
    assert addresses(commands.add(ask(tmp_path))) == ["10.0.0.100"]


def test_an_almost_full_large_subnet_has_its_one_free_address_found(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    for number in range(2, 1 << 12):
        if number != 2000:
            (folder / f"10.0.{number >> 8}.{number & 255}").symlink_to("somebody/eth0")
    full = [[{"subnet": "10.0.0.0/20", "rangeEnd": "10.0.15.255"}]]
    (folder / "10.0.15.254").unlink()
    assert addresses(commands.add(ask(tmp_path, ranges=full))) == ["10.0.7.208"]
    assert addresses(commands.add(ask(tmp_path, "two", ranges=full))) == ["10.0.15.254"]
    assert "all 4093 addresses" in refused(ask(tmp_path, "three", ranges=full), errors.ADDRESSES_EXHAUSTED)
