"""Pods' network namespaces while they come and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netlab.errors import NotFoundError
from netlab.lab.network_envoy import _opened
from netlab.net import syscalls
from tests.sandbox import isolated

_BIND = 4096


@isolated
def test_a_file_that_is_no_namespace_yet_or_any_more_is_as_good_as_gone(tmp_path: Path) -> None:
    here, path = os.pidfd_open(os.getpid()), tmp_path / "cni-1"
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(NotFoundError, match=r"default/web is gone; cannot enter its network \(No such file"):
        _opened(here, str(path), "default/web")
    path.touch()
    with pytest.raises(NotFoundError, match=r"default/web is gone; cannot enter its network \("):
        _opened(here, str(path), "default/web")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    syscalls.mount("/proc/self/ns/net", path, flags=_BIND)
    descriptor = _opened(here, str(path), "default/web")
    assert os.fstat(descriptor).st_ino == Path("/proc/self/ns/net").stat().st_ino
    os.close(descriptor)
