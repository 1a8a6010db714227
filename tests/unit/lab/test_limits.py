"""What a lab needs of the machine's limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import pytest

from netlab.errors import UnsupportedError
from netlab.lab import limits


def _refused(prepare: Callable[[], object], nodes: int) -> str:
    """What `require` says in a process of its own, after `prepare`; nothing if the lab may be made."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            limits.require(nodes)
        except UnsupportedError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def _few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


def _few_processes() -> None:
    if os.geteuid() == 0:  # root is exempt
        os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (500, 500))


CASES = [
    (_few_descriptors, 3, ""),
    (_few_descriptors, 100, "needs 900 file descriptors in one process, and RLIMIT_NOFILE (`ulimit -Hn`) leaves 200"),
    (_few_processes, 100, "needs 2,430 processes and threads, and RLIMIT_NPROC (`ulimit -u`) leaves"),
]


@pytest.mark.parametrize(("prepare", "nodes", "said"), CASES)
def test_a_limit_that_is_too_low_is_named(prepare: Callable[[], object], nodes: int, said: str) -> None:
    found = _refused(prepare, nodes)
    assert said in found
    assert bool(found) == bool(said)
    assert not found or "or make fewer nodes" in found


def test_every_limit_has_a_remedy() -> None:
    assert all(limit.remedy and limit.name and limit.needed > 0 for limit in limits.found(10))
