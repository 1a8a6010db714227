"""What an installed plugin does after its first answer: it leaves a process behind that answers the next calls.

Most of a call is starting an interpreter and loading modules. The child of a call that did its own work has both
behind it. It serves what serve.py serves, at a socket of the plugins' own folder, and ends after some seconds without a
call (agent.py). The caller waits for none of this: it has its answer, the end of its
streams and the exit status. As in call.py, nothing but C modules is imported before that.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal is slow to import
import gc
import posix
import sys

from netlab.cni.plugins.request import LONGEST_LINGER
from netlab.cni.spec import codec

DEFAULT_SECONDS = 5


def stay(launcher: str, path: str, modules: int, config: bytes) -> None:
    """Leave an agent behind if this call may: return in the process that was called, and never in the child.

    `launcher` is the path of the executable, `path` that of what it loaded, which is open as `modules`. `config` is the
    standard input of the call, which was answered.
    """
    try:
        seconds = _seconds(config)
        if not seconds or not _is_at_home():
            return
        files = {each: _identity(posix.stat(each)) for each in (launcher, sys.executable)}
        files[path] = _identity(posix.fstat(modules))  # what was loaded, whatever is there by now
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        for stream in (0, 1, 2):
            posix.dup2(null, stream)
        # If this is the leader of a terminal's session, its end hangs up those who have not left that yet.
        _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
        if posix.fork():
            return
    except OSError:  # the call has been answered, so this is no failure
        return
    try:
        _detach(modules)
        from netlab.cni.plugins.resident import agent

        agent.run(path.rpartition("/")[0], lambda: _are_current(files), seconds)
    finally:
        posix._exit(0)


def _identity(found: posix.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _are_current(files: dict[str, tuple[int, ...]]) -> bool:
    try:
        return all(_identity(posix.stat(path)) == known for path, known in files.items())
    except OSError:
        return False


def _seconds(config: bytes) -> int:
    """The key lingerSeconds, which the plugin has checked unless this is a DEL."""
    value = codec.loads(config).get("lingerSeconds")
    if value is None:
        return DEFAULT_SECONDS
    return value if isinstance(value, int) and 0 < value <= LONGEST_LINGER else 0


def _is_at_home() -> bool:
    """Whether the network and the mount namespace are those of pid 1, which live on anyway.

    `ip netns exec`, `unshare` and rootless engines make others, and a process that stays there would keep them.
    """
    return all(
        posix.readlink(f"/proc/1/ns/{kind}") == posix.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt")
    )


def _detach(modules: int) -> None:
    """Keep nothing of the caller's: session, terminal, directory, environment, signals, descriptors.

    The open file `modules` is replaced by its content, so that its file system can be unmounted.
    """
    posix.setsid()
    if posix.fork():
        posix._exit(0)  # no leader of a session, so no terminal can become its own
    import os
    import signal

    os.chdir("/")
    os.umask(0o022)
    os.environ.clear()
    posix.environ.clear()
    _clear_environment_block()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Now, so that no object closes a number later that is another file's by then.
    gc.enable()
    gc.collect()
    memory = os.memfd_create("netlab-modules", os.MFD_CLOEXEC)
    os.sendfile(memory, modules, 0, os.fstat(modules).st_size)
    os.dup2(memory, modules, inheritable=False)
    os.closerange(3, modules)
    os.closerange(modules + 1, os.sysconf("SC_OPEN_MAX"))


def _clear_environment_block() -> None:
    """Overwrite what execve(2) put onto the stack and /proc/PID/environ shows: fields 50 and 51 of proc_pid_stat(5)."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        start, end = map(int, file.read().rpartition(b")")[2].split()[47:49])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        memory.seek(start)
        memory.write(bytes(end - start))
