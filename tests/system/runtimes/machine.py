"""A machine for a container engine: every namespace and folder that one writes to is the test's own.

An engine leaves processes behind (conmon, containerd's shims), control groups, and files in /run, /var, /etc and
/dev/shm. Here all of them end with the test, whatever it did: processes with their namespace's pid 1, files with a
tmpfs that lies over the host's folders.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

from netlab.net import syscalls
from tests.sandbox import isolated

P = ParamSpec("P")

_CLONE_NEWCGROUP = 0x02000000
_OVERLAID = ("etc", "opt", "var")
_EMPTY = ("/run", "/dev/shm")


def on_its_own_machine(test: Callable[P, Any]) -> Callable[P, None]:
    """Run a test of a container engine as root, in a child process that is pid 1 of its own machine.

    Fixtures and parameters arrive as usual; pytest's temporary folders are the host's, and stay.
    """

    @isolated
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with _control_group() as group:
            syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
            read_end, write_end = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(read_end)
                syscalls.set_parent_death_signal(signal.SIGKILL)
                _child(lambda: test(*args, **kwargs), group, write_end)
            os.close(write_end)
            # To its end, not to the pipe's: what an engine left behind has the pipe open, and ends with pid 1.
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with os.fdopen(read_end, "r", errors="replace") as pipe:
                report = pipe.read()
            assert status == 0, f"on its machine (status {status}):\n{report}"

    return run


def _child(body: Callable[[], Any], group: Path, write_end: int) -> NoReturn:
    status, report = 0, ""
    try:
        _settle(group)
        body()
    except BaseException:
        status, report = 1, traceback.format_exc()
    os.write(write_end, report.encode()[-60_000:])  # what a pipe holds: nobody reads before the end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    """A control group (version 2) beneath this process's own, removed with all beneath it."""
    root = _mount_control_groups()
    (own,) = (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    group = root / own.strip("/") / f"netlab-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()


def _mount_control_groups() -> Path:
    """See control groups of version 2, from this process's root of them on; where they are mounted."""
    root = Path("/sys/fs/cgroup")
    # Not over what is there: the kernel refuses (EBUSY) what it takes for the same file system in the same place.
    syscalls.umount(root, syscalls.MNT_DETACH)
    syscalls.mount("cgroup2", root, "cgroup2")
    return root


def _settle(group: Path) -> None:
    # A group with processes of its own cannot hand controllers on: this one moves beneath it once it is the root.
    (group / "cgroup.procs").write_text("0")
    # With mounts of its own, too: the parent has to find the group again.
    syscalls.unshare(_CLONE_NEWCGROUP | syscalls.CLONE_NEWNS)
    leaf = _mount_control_groups() / "test"
    leaf.mkdir()
    (leaf / "cgroup.procs").write_text("0")
    syscalls.mount("proc", "/proc", "proc")
    for folder in _EMPTY:
        syscalls.mount("tmpfs", folder, "tmpfs")
    for name in _OVERLAID:
        upper, work = Path("/run/overlay", name), Path("/run/overlay", f"{name}.work")
        upper.mkdir(parents=True)
        work.mkdir()
        syscalls.mount("overlay", f"/{name}", "overlay", 0, f"lowerdir=/{name},upperdir={upper},workdir={work}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run(*argv: str | Path, **more: Any) -> str:
    """Run a program to its end; what it printed. Fails with what it said on standard error."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=120, **more
    )
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr or done.stdout}"
    return done.stdout
