import socket
from pathlib import Path

import pytest

from netlab.net import syscalls
from tests.sandbox import isolated


@isolated
def test_an_isolated_test_sees_only_its_own_loopback() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


@isolated
def test_mounts_of_an_isolated_test_are_its_own(tmp_path: Path) -> None:
    syscalls.mount("tmpfs", tmp_path, "tmpfs")
    (tmp_path / "file").write_text("x")


def test_a_failure_in_the_child_fails_the_test() -> None:
    @isolated
    def failing() -> None:
        raise ValueError("inside")

    with pytest.raises(pytest.fail.Exception, match="inside"):
        failing()
