from __future__ import annotations

from pathlib import Path

from netlab.lab.logfiles import bound
from netlab.node.logs import earlier


def test_a_file_that_is_too_large_is_emptied_and_its_end_kept(tmp_path: Path) -> None:
    log = tmp_path / "kubelet-node-1.log"
    small = tmp_path / "daemon.log"
    small.write_text("a line\n")
    with log.open("ab", buffering=0) as writer:
        for number in range(100):
            writer.write(b"line %d\n" % number)
        bound(tmp_path, limit=64)
        assert log.read_bytes() == b""
        kept = earlier(log).read_bytes()
        assert len(kept) <= 64
        assert kept.startswith(b"line 9")
        assert kept.endswith(b"line 99\n")
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    bound(tmp_path, limit=64)
    assert (log.read_bytes(), small.read_text()) == (b"after\n", "a line\n")


def test_a_line_without_end_is_bounded_too(tmp_path: Path) -> None:
    log = tmp_path / "pods" / "default_p_uid" / "c" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 1000)
    bound(tmp_path, limit=64)
    assert log.stat().st_size == 0
    assert earlier(log).stat().st_size <= 64


def test_files_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    bound(tmp_path / "absent")
