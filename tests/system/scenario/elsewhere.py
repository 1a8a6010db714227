"""A process elsewhere: what the tests of requests and of commands enter."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

from netlab.net import syscalls


@contextlib.contextmanager
def elsewhere(kinds: int, command: str, life: Callable[[], object] = signal.pause) -> Iterator[int]:
    """A process in namespaces of its own, which lives there when `command` is done; its pidfd."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(kinds)
            subprocess.run(command.split(), check=True)
            os.write(tell, b"x")
            life()
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(ready, "rb") as pipe:
        assert pipe.read(1) == b"x"
    pidfd = os.pidfd_open(child)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
