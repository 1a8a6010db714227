"""Which ids root's labs get."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netlab.errors import ExhaustedError, UsageError
from netlab.lab import ids
from netlab.machine.userns import IdRange

EVERYTHING = [(0, 1 << 32)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose registry and /etc are a directory of the test's."""
    monkeypatch.setattr(ids, "_REGISTRY", tmp_path / "registry")
    monkeypatch.setattr(ids, "_mapped", lambda kind: EVERYTHING)
    monkeypatch.setattr(ids, "_subordinate", lambda path: read(tmp_path / path.name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


read = ids._subordinate


def lab(host: Path, name: str) -> Path:
    (host / name).mkdir(exist_ok=True)
    return host / name


def test_labs_share_no_range_and_keep_their_own(host: Path) -> None:
    one, two = ids.take(lab(host, "one")), ids.take(lab(host, "two"))
    assert (one, two) == (IdRange(0x40000000), IdRange(0x40010000))
    assert ids.take(host / "one") == one
    assert (ids.of(host / "one"), ids.of(host / "none")) == (one, None)


def test_a_range_is_given_back(host: Path) -> None:
    one = ids.take(lab(host, "one"))
    ids.take(lab(host, "two"))
    ids.give_back(host / "one")
    assert ids.take(lab(host, "three")) == one


def test_the_range_of_a_lab_removed_by_hand_is_free(host: Path) -> None:
    one = ids.take(lab(host, "one"))
    (host / "one/ids").unlink()
    (host / "one").rmdir()
    assert ids.take(lab(host, "two")) == one


def test_after_a_reboot_a_lab_has_its_range_again(host: Path) -> None:
    ids.take(lab(host, "one"))
    two = ids.take(lab(host, "two"))
    for entry in (host / "registry").iterdir():
        entry.unlink()
    assert ids.take(host / "two") == two


@pytest.mark.parametrize("written", ["0\n", "100000\n", "1073741825\n", "x", ""])
def test_what_a_lab_wrote_there_gives_it_no_others_ids(host: Path, written: str) -> None:
    (lab(host, "one") / "ids").write_text(written)
    assert ids.take(host / "one") == IdRange(0x40000000)


@pytest.mark.parametrize(
    ("users", "groups", "expected"),
    [
        ("root:100000:131072\n", "root:100000:65536\n", [100000]),
        ("root:100000:131072\nann:65536:1000\n", "0:100000:131072\n", [100000, 165536]),
        ("root:100000:65535\n", "root:100000:65535\n", [0x40000000, 0x40010000]),
        ("ann:1073741824:70000\nnonsense\n", "", [0x40020000]),
        ("", "ann:1073741800:100\n", [0x40010000]),
    ],
)
def test_roots_own_subordinate_ids_come_first_and_others_never(
    host: Path, users: str, groups: str, expected: list[int]
) -> None:
    (host / "subuid").write_text(users)
    (host / "subgid").write_text(groups)
    taken = [ids.take(lab(host, f"lab-{number}")).first for number in range(len(expected))]
    assert taken == expected


def test_when_none_is_left_it_is_said(host: Path) -> None:
    for name in ("subuid", "subgid"):
        (host / name).write_text("root:100000:65536\n")
    ids.take(lab(host, "one"))
    with pytest.raises(ExhaustedError, match="`netlab down` gives one back"):
        ids.take(lab(host, "two"))


def test_root_of_a_few_ids_has_none_to_give(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_mapped", lambda kind: [(0, 65536)])
    assert ids.take(lab(host, "one")) == IdRange(0, 1)


@pytest.mark.parametrize("name", ["logs", "machines", "nodes", "cluster.db", "lock"])
def test_a_link_that_a_lab_left_is_not_followed(host: Path, name: str) -> None:
    (lab(host, "one") / name).symlink_to("/etc")
    with pytest.raises(UsageError, match=f"{name} is a link"):
        ids.require_intact(host / "one")
