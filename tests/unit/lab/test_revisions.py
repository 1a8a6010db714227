"""A component's number counts while it lives, and its successor does not inherit it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from netlab.lab.revisions import Publisher, Standing, read


def _component(path: Path, revision: int, writes: int) -> tuple[int, int]:
    """A process that has published these numbers, and a pipe that it ends by."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Publisher(path).publish(revision, writes)
            os.write(told, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"!"
    return child, ready


def _end(child: int, ready: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)


def test_what_nobody_has_published_is_nowhere(tmp_path: Path) -> None:
    assert read(tmp_path / "kube-proxy-node-1") == Standing(0, 0)


def test_the_number_of_a_process_counts_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "revisions" / "kube-proxy-node-1"
    component = _component(path, 42, 7)
    assert read(path) == Standing(42, 7)
    os.kill(component[0], signal.SIGSTOP)
    assert read(path) == Standing(42, 7)
    _end(*component)
    assert read(path) == Standing(0, 0)
    assert "42" in path.read_text()  # it is still there, and does not count


def test_a_successor_begins_at_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kube-proxy-node-1"
    _end(*_component(path, 42, 0))
    successor = Publisher(path)
    assert read(path) == Standing(0, 0)
    successor.publish(43)
    assert read(path) == Standing(43, 0)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    publisher = Publisher(tmp_path / "file" / "kube-proxy-node-1")
    publisher.publish(42)
    assert read(tmp_path / "file" / "kube-proxy-node-1") == Standing(0, 0)
