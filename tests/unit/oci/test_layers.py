"""Unpacking layers: honest ones as overlayfs wants them, and others not at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from netlab.errors import UsageError
from netlab.oci import layers, streams
from tests.images import layer, member

Member = tuple[tarfile.TarInfo, bytes]


def unpacked(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "layer").write_bytes(data)
    target = tmp_path / "tree"
    target.mkdir()
    plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    layers.unpack(tmp_path / "layer", target, hashlib.sha256(plain).hexdigest())
    return target


def hard_link(name: str, target: str) -> Member:
    return member(name, b"", type=tarfile.LNKTYPE, linkname=target)


def test_what_a_layer_has(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        gzip.compress(
            layer(
                [
                    member("./", mode=0o711),
                    member("closed", mode=0o500),
                    member("closed/file", b"text", mode=0o640, mtime=1.5),
                    member("/absolute", b""),
                    member("implied/by/this", b""),
                    member("link", "../../etc/passwd"),
                    hard_link("second", "./closed/file"),
                    member("pipe", None, type=tarfile.FIFOTYPE),
                    member("dev/null", None, type=tarfile.CHRTYPE, devmajor=1, devminor=3),
                    member("twice", b"old"),
                    member("twice", b"new"),
                ]
            )
        ),
    )
    assert sorted(each.name for each in tree.iterdir()) == sorted(
        ["absolute", "closed", "dev", "implied", "link", "pipe", "second", "twice"]
    )
    assert stat.S_IMODE(tree.stat().st_mode) == 0o711
    assert stat.S_IMODE((tree / "closed").stat().st_mode) == 0o500
    file = (tree / "second").stat()
    assert (file.st_nlink, stat.S_IMODE(file.st_mode), file.st_mtime, file.st_size) == (2, 0o640, 1.5, 4)
    assert (tree / "link").readlink() == Path("../../etc/passwd")
    assert (tree / "twice").read_bytes() == b"new"
    assert list((tree / "dev").iterdir()) == []
    assert (tree / "pipe").is_fifo()
    (tree / "closed").chmod(0o700)


def test_what_is_gone_is_hidden_from_lower_layers(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        layer([member("a/.wh.b", b""), member("c/.wh..wh..opq", b""), member("c/d", b""), member(".wh..wh.plnk", b"")]),
    )
    whiteout = (tree / "a/b").lstat()
    assert (stat.S_ISCHR(whiteout.st_mode), whiteout.st_rdev) == (True, os.makedev(0, 0))
    assert os.getxattr(tree / "c", "user.overlay.opaque") == b"y"
    assert sorted(each.name for each in tree.rglob("*")) == ["a", "b", "c", "d"]


MALICIOUS: dict[str, list[Member]] = {
    "leads out of it": [member("../out", b"x")],
    "'a/../../out' leads out": [member("a/../../out", b"x")],
    "'link' leads through what is no folder": [member("link", "/tmp"), member("link/out", b"x")],
    "'a/link' leads through": [member("a/link", ".."), member("a/link/out", b"x")],
    "'file' leads through": [member("file", b""), member("file/below", b"")],
    "is a device": [member("sda", None, type=tarfile.BLKTYPE)],
    "'etc/null' is a device": [member("etc/null", None, type=tarfile.CHRTYPE)],
    "is a hard link to what is not in the layer": [hard_link("passwd", "hosts")],
    "'p' is a hard link to nothing": [hard_link("p", "/")],
    "is a hard link to a folder": [member("d"), hard_link("e", "d")],
    "'\\.\\./\\.\\./etc/passwd' leads out": [hard_link("passwd", "../../etc/passwd")],
    "is no whiteout": [member(".wh.", b"")],
    "'.wh...' leads out|'\\.\\.' leads out": [member(".wh...", b"")],
    "is a folder and something else": [member("a/b", b""), member("a", b"")],
    "is of an unknown kind": [member("odd", None, type=b"V")],
}


@pytest.mark.parametrize("why", MALICIOUS)
def test_what_no_honest_layer_has_is_refused(tmp_path: Path, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        unpacked(tmp_path, layer(MALICIOUS[why]))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_hard_link_follows_no_symbolic_link(tmp_path: Path) -> None:
    tree = unpacked(tmp_path, layer([member("link", "/etc/passwd"), hard_link("second", "link")]))
    assert (tree / "second").is_symlink()


def _bomb() -> bytes:
    return gzip.compress(bytes(1 << 20), mtime=0) * 70


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_bomb(), "grows to more than"),
        (gzip.compress(layer([member("a", b"text")]), mtime=0)[:-12], "is damaged"),
        (b"\x1f\x8b not gzip", "is damaged"),
        (layer([member("a", bytes(2000))])[:1000], "is damaged|unexpected end"),
        (b"x" * 1024, "is damaged"),
    ],
)
def test_bombs_and_damage_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "layer").write_bytes(data)
    (tmp_path / "tree").mkdir()
    with pytest.raises(UsageError, match=why):
        layers.unpack(tmp_path / "layer", tmp_path / "tree", "0" * 64)


def test_a_header_larger_than_any_is_refused(tmp_path: Path) -> None:
    info: dict[str, Any] = {"pax_headers": {"comment": "x" * (2 << 20)}}
    with pytest.raises(UsageError, match="a header of it is larger"):
        unpacked(tmp_path, layer([member("a", b"", **info)]))


def test_another_layer_than_the_one_named_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(layer([member("a", b"")]))
    (tmp_path / "tree").mkdir()
    with pytest.raises(UsageError, match="is not what the image says"):
        layers.unpack(tmp_path / "layer", tmp_path / "tree", "0" * 64)


def test_zstd_is_known(tmp_path: Path) -> None:
    zstd = streams._zstd()
    data = layer([member("a", b"text")])
    (tmp_path / "layer").write_bytes(zstd.compress(data))
    (tmp_path / "tree").mkdir()
    assert layers.unpack(tmp_path / "layer", tmp_path / "tree", hashlib.sha256(data).hexdigest()) == 4
