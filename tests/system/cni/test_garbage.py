"""GC removes what nobody claims any more, whatever failed before; STATUS says whether an ADD can be served."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import ip, runtime, sandboxes

pytestmark = pytest.mark.usefixtures("way")

LONG = "c" * 200
"""An identifier of a container whose owner's label has to be hashed."""


def network(data_dir: Path, name: str = "net", third: int = 1, **more: Any) -> NetworkList:
    ranges = [[{"subnet": f"10.244.{third}.0/24"}], [{"subnet": f"fd00:10:244:{third}::/64"}]]
    net = pods.network(
        data_dir, version="1.1.0", ranges=ranges, bridge=f"cni{third}", **{"ipMasq": True, "macspoofchk": True, **more}
    )
    return dataclasses.replace(net, name=name)


def config(net: NetworkList, **more: Any) -> dict[str, Any]:
    return {**net.plugins[0], "name": net.name, "cniVersion": "1.1.0", **more}


def valid(*container_ids: str) -> list[dict[str, str]]:
    return [{"containerID": container_id, "ifname": "eth0"} for container_id in container_ids]


def reserved(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(("10.", "fd"))} if folder.exists() else set()


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
@pytest.mark.parametrize("mode", ["bridge", "routed"])
@isolated
def test_only_what_is_not_valid_goes(tmp_path: Path, mode: str, key: str) -> None:
    spoofing = mode == "bridge"
    net = network(tmp_path, mode=mode, macspoofchk=spoofing)
    other = network(tmp_path, "net.2", 2)
    subject = runtime(tmp_path)
    ip("link", "add", "veth1234567890", "type", "veth", "peer", "name", "mine")
    with sandboxes(5) as (one, two, three, four, five):
        kept = subject.add(net, Attachment("one", one))["interfaces"]
        for container_id, path in (("two", two), (LONG, three)):
            subject.add(net, Attachment(container_id, path))
        subject.add(net, Attachment(LONG, four, "eth1"))
        foreign = subject.add(other, Attachment("two", five))["interfaces"]
        ours = {interface["name"] for interface in [*kept, *foreign] if "sandbox" not in interface}
        keep = [*valid("one"), {"containerID": LONG, "ifname": "eth1"}]
        assert len(pods.links()) == 5 + (2 if spoofing else 1) + 3
        assert pods.execute("netlab", "GC", config(net, **{key: keep})) == (0, None)
        assert pods.links() > ours | {"veth1234567890", "mine"}
        assert len(pods.links() - ours) == 4, "and lo, and that of the container with the long name"
        listing = pods.ruleset()
        assert "net/two/" not in listing
        assert "net.2/two/" in listing
        assert listing.count("net/one/") == (6 if spoofing else 4)
        assert listing.count("net/#") == (6 if spoofing else 4)
        assert len(reserved(tmp_path / "net")) == 4
        assert len(reserved(tmp_path / "net.2")) == 2
        subject.check(net, Attachment("one", one))
        subject.check(net, Attachment(LONG, four, "eth1"))
        subject.check(other, Attachment("two", five))
        assert pods.execute("netlab", "GC", config(net, **{key: []})) == (0, None)
        assert "net/" not in pods.ruleset()
        assert reserved(tmp_path / "net") == set()
        subject.check(other, Attachment("two", five))


@isolated
def test_it_goes_on_after_failures_and_tells_all_of_them(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        elsewhere = {**net.plugins[0]["ipam"], "type": "none"}
        status, said = pods.execute("netlab", "GC", config(net, ipam=elsewhere, **{"cni.dev/valid-attachments": []}))
        assert (status, said["code"]) == (1, errors.GARBAGE_LEFT)
        assert said["msg"].startswith("network net: garbage remains: ")
        assert "'none'" in said["msg"]
        assert pods.links() == {"lo", "cni1"}
        assert "net/" not in pods.ruleset()
        assert pods.execute("netlab", "GC", config(net, **{"cni.dev/valid-attachments": []})) == (0, None)
        assert reserved(tmp_path / "net") == set()


@isolated
def test_without_the_list_nothing_is_touched(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        status, said = pods.execute("netlab", "GC", config(net))
        assert (status, said["code"]) == (1, errors.INVALID_CONFIG)
        subject.check(net, Attachment("one", one))


@isolated
def test_a_delete_after_a_gc_is_a_success(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        assert pods.execute("netlab", "GC", config(net, **{"cni.dev/attachments": []})) == (0, None)
        subject.delete(net, Attachment("one", one))


def nft_is_not_there() -> None:
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert program
    syscalls.mount("/dev/null", program, None, syscalls.MS_BIND)


def nothing() -> None:
    return


STATUSES: dict[str, tuple[Callable[[], object], dict[str, Any], int, str]] = {
    "fine": (nothing, {}, 0, ""),
    "no bridge yet, and routed": (nothing, {"mode": "routed", "macspoofchk": False}, 0, ""),
    "no bridge": (
        lambda: ip("link", "add", "cni1", "type", "veth"),
        {},
        errors.NOT_AVAILABLE,
        "'cni1' exists and is not a bridge",
    ),
    "no nft": (nft_is_not_there, {}, errors.NOT_AVAILABLE, "nft"),
    "no nft, and no need": (nft_is_not_there, {"ipMasq": False, "macspoofchk": False}, 0, ""),
    "no IPAM plugin": (nothing, {"ipam": {"type": "none"}}, errors.NOT_AVAILABLE, "'none'"),
    "wrong configuration": (nothing, {"mtu": -5}, errors.INVALID_CONFIG, "mtu: -5"),
}


@pytest.mark.parametrize("case", STATUSES)
@isolated
def test_status(tmp_path: Path, case: str) -> None:
    prepare, more, code, said = STATUSES[case]
    runtime(tmp_path)
    prepare()
    before = (pods.links(), reserved(tmp_path / "net"))
    status, answer = pods.execute("netlab", "STATUS", config(network(tmp_path, **more)))
    assert (status, answer["code"] if answer else 0) == (bool(code), code)
    assert said in (answer["msg"] if answer else "")
    assert (pods.links(), reserved(tmp_path / "net")) == before


@isolated
def test_exhausted_addresses_are_told_by_status(tmp_path: Path) -> None:
    net = network(tmp_path)
    ipam = {**net.plugins[0]["ipam"], "ranges": [[{"subnet": "10.244.1.0/30"}]]}
    net = dataclasses.replace(net, plugins=({**net.plugins[0], "ipam": ipam},))
    with sandboxes(1) as (one,):
        runtime(tmp_path).add(net, Attachment("one", one))
        status, answer = pods.execute("netlab", "STATUS", config(net))
        assert (status, answer["code"]) == (1, errors.NOT_AVAILABLE)
