from __future__ import annotations

import errno
import itertools
import threading
from pathlib import Path

import pytest

from netlab.lab.logfiles import LOOK, Pace, bound, grown, kept
from netlab.net import syscalls

LIMIT = 64 * 1024
LINES = [b"line %d\n" % number for number in range(40_000)]


def test_the_end_of_a_file_that_is_too_large_is_kept(tmp_path: Path) -> None:
    log, small = tmp_path / "pods" / "default_p_uid" / "c" / "0.log", tmp_path / "daemon.log"
    log.parent.mkdir(parents=True)
    small.write_text("a line\n")
    with log.open("ab", buffering=0) as writer:
        writer.write(b"".join(LINES))
        bound(tmp_path, LIMIT)
        assert LIMIT <= log.stat().st_blocks * 512 <= LIMIT + 8192
        text, end = kept(log, LIMIT)
        assert len(text) > LIMIT - 20
        assert text == b"".join(LINES)[-len(text) :]
        assert text.startswith(b"line ")
        writer.write(b"after\n")
    assert (kept(log, LIMIT)[0], kept(small)) == (text + b"after\n", (b"a line\n", 7))
    assert next(grown(log, end, 0.01)) == b"after\n"


def test_a_line_without_end_is_bounded_and_kept_too(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"x" * 10 * LIMIT)
    bound(tmp_path, LIMIT)
    assert log.stat().st_blocks * 512 <= LIMIT + 8192
    text, _ = kept(log, LIMIT)
    assert LIMIT <= len(text) <= 2 * LIMIT
    assert set(text) == {ord("x")}


def test_nothing_is_lost_of_what_is_written_while_files_are_shortened(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    written = threading.Event()

    def write() -> None:
        with log.open("ab", buffering=0) as file:
            for line in LINES:
                file.write(line)
        written.set()

    log.touch()
    writer = threading.Thread(target=write)
    writer.start()
    while not written.is_set():
        bound(tmp_path, LIMIT)
        text, _ = kept(log, LIMIT)
        numbers = [int(line.removeprefix(b"line ")) for line in text.split(b"\n")[:-1]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    writer.join()
    text, end = kept(log, LIMIT)
    assert end == sum(map(len, LINES))
    assert text == b"".join(LINES)[-len(text) :]
    assert len(text) > LIMIT - 20


def test_who_follows_skips_what_is_no_longer_there(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"first\n")
    follower = grown(log, 0, 0.01)
    assert next(follower) == b"first\n"
    with log.open("ab") as file:
        file.write(b"".join(LINES))
    bound(tmp_path, LIMIT)
    end = b"".join(itertools.takewhile(bool, [next(follower)]))
    assert end == b"".join(LINES)[-len(end) :]
    log.write_bytes(b"anew\n")  # a file system without holes
    assert next(follower) == b"anew\n"
    log.unlink()
    assert list(follower) == []


def test_a_file_system_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(syscalls, "punch_hole", refuse)
    (tmp_path / "0.log").write_bytes(b"".join(LINES))
    bound(tmp_path, LIMIT)
    assert kept(tmp_path / "0.log") == (b"", 0)


MIB = 1 << 20
PACES = [
    ("often enough", [(LOOK - 1, 900 * MIB, False), (LOOK, 900 * MIB, True), (LOOK + 1, 900 * MIB, False)]),
    ("a burst", [(0.1, 837 * MIB, False), (0.2, 836 * MIB, True), (0.3, 836 * MIB, False), (0.4, 772 * MIB, True)]),
    ("others give room back", [(0.1, 2000 * MIB, False), (0.2, 1937 * MIB, False), (0.3, 1936 * MIB, True)]),
]


@pytest.mark.parametrize(("what", "looks"), PACES)
def test_when_to_look(what: str, looks: list[tuple[float, int, bool]]) -> None:
    pace = Pace(0.0, 900 * MIB)
    assert [(now, room, pace.is_due(now, room)) for now, room, _ in looks] == looks


def test_files_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    bound(tmp_path / "absent")
