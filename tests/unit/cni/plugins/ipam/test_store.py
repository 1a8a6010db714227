"""Reservations through kills, reboots and concurrent use."""

from __future__ import annotations

import os
import posix
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.ipam import audit, commands
from netlab.cni.plugins.ipam.listing import networks
from netlab.cni.plugins.ipam.store import Store, holders
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.unit.cni.plugins.ipam.asking import V4, V6, addresses, ask

RANGES = [V4, V6]
CHANGES = ("symlink", "unlink", "pwrite", "mkdir", "open")


def whole(data_dir: Path) -> None:
    """Every reservation has its holder's link, by which a DEL finds it."""
    for one in holders(str(data_dir), "net"):
        link = data_dir / "net" / ".holders" / f"{one.container_id}:{one.ifname}"
        assert one.address in link.readlink().name.split()


def killed(work: Callable[[], Any], before: int) -> bool:
    """Do the work in a child that is killed at its change number `before` of a file system; whether it was."""
    child = os.fork()
    if child == 0:
        changes = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                nonlocal changes
                changes += 1
                if changes == before:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return run

        for name in CHANGES:
            setattr(posix, name, counted(getattr(posix, name)))
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def request(data_dir: Path, name: str, command: str = "ADD", **more: Any) -> Any:
    return ask(
        data_dir, name, command=command, ranges=RANGES, sticky=True, bootIDFile=str(data_dir / "boot_id"), more=more
    )


def add_after_a_reboot(data_dir: Path) -> None:
    (data_dir / "boot_id").write_text("another\n")
    commands.add(request(data_dir, "victim"))


VICTIMS: dict[str, Callable[[Path], object]] = {
    "the first ADD": lambda path: commands.add(request(path / "fresh", "victim")),
    "a later ADD": lambda path: commands.add(request(path, "victim")),
    "a DEL": lambda path: commands.delete(request(path, "old", "DEL")),
    "a GC": lambda path: audit.collect_garbage(request(path, "", "GC", **{"cni.dev/valid-attachments": []})),
    "an ADD after a reboot": add_after_a_reboot,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_at_any_point_leaves_whole_reservations_and_no_lock(tmp_path: Path, victim: str) -> None:
    ends = []
    for before in range(1, 30):
        path = tmp_path / str(before)
        data_dir = path / "fresh" if victim == "the first ADD" else path
        data_dir.mkdir(parents=True)
        (data_dir / "boot_id").write_text("one\n")
        if data_dir == path:
            commands.add(request(data_dir, "old"))
        was_killed = killed(lambda path=path: VICTIMS[victim](path), before)  # type: ignore[misc]
        whole(data_dir)
        # Whatever it left, the next DEL frees it, and the address can be had.
        for name in ("victim", "old"):
            commands.delete(request(data_dir, name, "DEL"))
        assert holders(str(data_dir), "net") == []
        for name in ("one", "two", "victim"):
            assert len(commands.add(request(data_dir, name))["ips"]) == 2
        whole(data_dir)
        ends.append(was_killed)
        if not was_killed:
            break
    assert ends.index(False) >= 3, "it was killed at every change that it makes"


def test_kills_at_random_points_of_many_processes(tmp_path: Path) -> None:
    """What has been said of one process holds for several that work on one network and are killed."""

    def work(name: str) -> None:
        while True:
            commands.add(ask(tmp_path, name, ranges=RANGES))
            commands.delete(ask(tmp_path, name, command="DEL"))

    chance = random.Random(3)
    for number in range(25):
        children = []
        for name in "abc":
            child = os.fork()
            if child == 0:
                work(f"{name}{number}")
            children.append(child)
        for child in children:
            time.sleep(chance.random() / 100)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        whole(tmp_path)
        owners = [one.address for one in holders(str(tmp_path), "net")]
        assert len(owners) == len(set(owners)) <= 6
        for name in "abc":
            commands.delete(ask(tmp_path, f"{name}{number}", command="DEL"))
        assert holders(str(tmp_path), "net") == []
        assert list((tmp_path / "net" / ".holders").iterdir()) == []


def test_reservations_of_an_earlier_boot_are_dropped_by_the_first_use(tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("one\n")
    before = addresses(commands.add(request(tmp_path, "old")))
    for command in ("ADD", "CHECK", "GC", "STATUS"):
        boot.write_text(f"before {command}")
        (network,) = networks(tmp_path)
        assert network.dead
        more = {"cni.dev/valid-attachments": [{"containerID": "old", "ifname": "eth0"}]} if command == "GC" else {}
        if command == "CHECK":
            with pytest.raises(CniError, match="has 0 of 2 reservations"):
                audit.check(request(tmp_path, "old", command))
        else:
            commands.HANDLERS[command](request(tmp_path, "new", command, **more))
        assert {one.container_id for one in holders(str(tmp_path), "net")} <= {"new"}
        commands.delete(request(tmp_path, "new", "DEL"))
        assert addresses(commands.add(request(tmp_path, "old"))) == before, "its name outlives the boot"
        assert not networks(tmp_path)[0].dead


def test_no_reservation_is_dropped_that_no_reboot_is_known_of(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1\n")
    other.write_text("2\n")
    commands.add(ask(tmp_path, "a", bootIDFile=str(one)))
    commands.add(ask(tmp_path, "b", bootIDFile=str(other)))
    commands.add(ask(tmp_path, "c"))
    (tmp_path / "net" / ".state").write_text("")
    commands.add(ask(tmp_path, "d", bootIDFile=str(one)))
    (tmp_path / "net" / ".state").write_bytes(b"\xff\x00\n\nnonsense 10.0.0\n=,\n")
    commands.add(ask(tmp_path, "e", bootIDFile=str(one)))
    assert {held.container_id for held in holders(str(tmp_path), "net")} == set("abcde")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("", "'' is not a boot id"), ("x" * 200, "is not a boot id"), ("a\nb", "no")],
)
def test_a_boot_id_that_is_none(tmp_path: Path, content: str | None, said: str) -> None:
    boot = tmp_path / "boot_id"
    if content is not None:
        boot.write_text(content)
    for command in ("ADD", "CHECK", "GC", "STATUS"):
        more: dict[str, Any] = {"cni.dev/valid-attachments": []} if command == "GC" else {}
        with pytest.raises(CniError, match=f"ipam.bootIDFile: {boot}: .*{said}") as caught:
            commands.HANDLERS[command](request(tmp_path, "a", command, **more))
        assert caught.value.code == (errors.IO_FAILURE if content is None else errors.INVALID_CONFIG)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("failing", ["pwrite", "symlink"])
def test_an_error_on_disk_takes_none_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*args: Any) -> None:
        names = (args[0], None, args[1]) if failing == "symlink" else ()
        raise OSError(28, "No space left on device", *names)

    commands.add(ask(tmp_path, "before"))
    monkeypatch.setattr(posix, failing, full)
    with pytest.raises(CniError, match="No space left on device; free space or inodes there") as caught:
        commands.add(ask(tmp_path))
    assert caught.value.msg.startswith(f"ipam.dataDir: {tmp_path}/net")
    assert {one.container_id for one in holders(str(tmp_path), "net")} == {"before"}


def test_a_failure_at_the_second_address_gives_back_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symlink = os.symlink

    def fails_for_ipv6(target: str, path: str) -> None:
        if path.endswith("fd00::2"):
            raise OSError(5, "Input/output error", path)
        symlink(target, path)

    monkeypatch.setattr(posix, "symlink", fails_for_ipv6)
    with pytest.raises(CniError, match="fd00::2: Input/output error"):
        commands.add(ask(tmp_path, ranges=RANGES))
    assert holders(str(tmp_path), "net") == []
    assert list((tmp_path / "net" / ".holders").iterdir()) == []


def test_identities_that_share_a_slot_forget_each_other(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with Store(str(tmp_path / "net"), create=True) as store:
        for number in range(5000):
            store.stick(f"pod-{number}:eth0", ["10.0.0.2"])
        known = sum(store.recall(f"pod-{number}:eth0") == ["10.0.0.2"] for number in range(5000))
    kept = list((tmp_path / "net" / ".sticky").iterdir())
    assert known == len(kept) <= 4096
