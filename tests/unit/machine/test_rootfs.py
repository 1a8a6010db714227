"""What of the host's files a lab is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netlab.errors import UsageError
from netlab.machine import rootfs


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with programs, a link to them, and things beside them."""
    (tmp_path / "programs/bin").mkdir(parents=True)
    (tmp_path / "programs/labs/one").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (tmp_path / "link").symlink_to("programs")
    (tmp_path / "absolute").symlink_to(tmp_path / "link/bin")
    return tmp_path


def test_what_a_link_leads_to_is_bound_and_every_link_on_the_way_is_there(host: Path) -> None:
    plan = rootfs.Plan()
    plan.expose(f"{host}/absolute")
    assert plan.bound == [f"{host}/programs/bin"]
    assert plan.links == {f"{host}/absolute": f"{host}/link/bin", f"{host}/link": "programs"}
    assert plan.has(f"{host}/programs/bin/sh")
    assert not plan.has(f"{host}/secret")
    assert not plan.has(f"{host}/programs/binary")


def test_what_is_bound_already_or_does_not_exist_is_not_bound(host: Path) -> None:
    plan = rootfs.Plan()
    for path in ("programs", "programs/bin", "link/bin", "nothing", "programs/../programs"):
        plan.expose(f"{host}/{path}")
    assert plan.bound == [f"{host}/programs"]


def test_a_loop_of_links_ends(host: Path) -> None:
    (host / "loop").symlink_to("loop")
    plan = rootfs.Plan()
    plan.expose(f"{host}/loop/x")
    assert not any(Path(path).exists() for path in plan.bound)


def test_what_is_masked_is_not_there_but_what_is_bound_within_is(host: Path) -> None:
    plan = rootfs.Plan([f"{host}/programs"], masked=f"{host}/programs/labs")
    assert not plan.has(f"{host}/programs/labs/one")
    plan.expose(f"{host}/programs/labs/one")
    assert plan.has(f"{host}/programs/labs/one/x")


def test_the_plan_of_a_lab_has_programs_and_code_and_no_secret(tmp_path: Path) -> None:
    plan = rootfs.plan(str(tmp_path / "lab"))
    shown = [os.path.realpath(path) for path in ("/usr/bin", rootfs.__file__, os.__file__, pytest.__file__)]
    assert [path for path in shown if not plan.has(path)] == []
    checkout = Path(rootfs.__file__).parents[2]
    hidden = ["/etc/shadow", "/root", str(Path.home()), "/var/lib/netlab", str(tmp_path), str(checkout)]
    assert [path for path in hidden if plan.has(os.path.realpath(path))] == []
    assert plan.masked is None


def test_labs_beneath_what_is_shown_are_masked() -> None:
    assert rootfs.plan("/usr/share/netlab-labs/one").masked == "/usr/share/netlab-labs"
    for among_programs in ("/usr/one", "/usr/bin/one"):
        with pytest.raises(UsageError, match="set NETLAB_HOME"):
            rootfs.plan(among_programs)


def test_of_etc_only_what_everybody_may_read_is_copied(tmp_path: Path) -> None:
    etc, copied = tmp_path / "etc", tmp_path / "copied"
    (etc / "ssl/certs").mkdir(parents=True)
    (etc / "ssl/private").mkdir()
    (etc / "resolv.conf").symlink_to("/nonexistent/stub")
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    for name in ("passwd", "shadow", "group", "ssl/certs/ca.pem", "ssl/private/key.pem"):
        (etc / name).write_text(name)
    (etc / "group").chmod(0o640)
    copied.mkdir()
    rootfs.copy_etc(str(etc), str(copied))
    files = sorted(str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file() or path.is_symlink())
    assert files == ["hostname", "hosts", "localtime", "passwd", "resolv.conf", "ssl/certs/ca.pem"]
    assert (copied / "resolv.conf").read_text() == ""
