from pathlib import Path

import pytest

from netlab.doctor import require
from netlab.doctor.checks import checks
from netlab.doctor.examination import Check
from netlab.errors import UnsupportedError


def test_checks_wait_only_for_earlier_ones_and_say_what_they_cost() -> None:
    known: dict[str, Check] = {}
    for check in checks():
        assert check.name not in known
        assert check.cost
        assert check.remedy
        for name in check.after:
            # An untried check never fails on its own account: what a lab needs must not hide behind a mere lack.
            assert known[name].required or not check.required
        known[check.name] = check


@pytest.mark.parametrize(
    ("present", "proxy", "message"),
    [
        ([], "nftables", "the pod network (vxlan): no program 'nft' on the PATH"),
        (["nft"], "nftables", None),
        (["nft"], "iptables", "--proxy iptables: no program 'iptables-restore' on the PATH"),
        (["nft", "iptables-restore"], "iptables", "--proxy iptables: no program 'ip6tables-restore'"),
        (["nft", "iptables-restore", "ip6tables-restore"], "iptables", None),
    ],
)
def test_a_missing_program_is_named_with_its_remedy(
    present: list[str], proxy: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in present:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if message is None:
        require(network="vxlan", proxy=proxy)
    else:
        with pytest.raises(UnsupportedError, match="apt-get install") as raised:
            require(network="vxlan", proxy=proxy)
        assert str(raised.value).startswith(message)


def test_an_etcd_that_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nft").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    require(network="vxlan", proxy="nftables", store="sqlite")
    with pytest.raises(
        UnsupportedError, match=r"--store etcd: no program 'etcd' .* `sudo apt-get install etcd-server`"
    ):
        require(network="vxlan", proxy="nftables", store="etcd")


def test_the_remedy_is_the_distributions_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dnf").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="`sudo dnf install nftables`"):
        require(network="routed", proxy="nftables")
