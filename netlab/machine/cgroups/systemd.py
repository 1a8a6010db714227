"""An ordinary user's cgroup v2 from systemd: a scope of the user's manager, which is delegated.

Processes of a login session are in a cgroup of root's. Only systemd can move one into the part of the tree that it has
given to the user (systemd.io/CGROUP_DELEGATION); it removes a scope with its last process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from netlab.errors import UnsupportedError

_LINGERING = Path("/var/lib/systemd/linger")
_PATIENCE = 5.0
_POLL = 0.005


def lingers() -> bool:
    """Whether this user's manager goes on without a session, so that labs in its scopes outlive a logout."""
    import pwd

    with contextlib.suppress(KeyError, OSError):
        return (_LINGERING / pwd.getpwuid(os.geteuid()).pw_name).exists()
    return False


def move_into_scope(name: str) -> None:
    """Move this process into a new scope, `name`, with all controllers that the user's manager has.

    Raises `UnsupportedError` when there is no manager, or it refuses.
    """
    program = shutil.which("busctl")
    runtime = f"/run/user/{os.geteuid()}"
    if program is None or not os.path.exists(f"{runtime}/bus"):  # noqa: PTH110
        raise UnsupportedError(f"systemd's user manager cannot be asked: no busctl, or no {runtime}/bus")
    properties = (
        *("3", "Delegate", "b", "true", "PIDs", "au", "1", str(os.getpid())),
        *("CollectMode", "s", "inactive-or-failed", "0"),
    )
    before = _membership()
    status = os.waitstatus_to_exitcode(
        os.waitpid(
            os.posix_spawn(
                program,
                [
                    *("busctl", "--user", "--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
                    *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"),
                    *properties,
                ],
                {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"},
            ),
            0,
        )[1]
    )
    if status != 0:
        raise UnsupportedError(f"systemd's user manager made no scope (busctl: status {status})")
    deadline = time.monotonic() + _PATIENCE
    while _membership() == before:
        if time.monotonic() > deadline:
            raise UnsupportedError(f"systemd's user manager made no scope within {_PATIENCE:.0f} s")
        time.sleep(_POLL)


def _membership() -> str:
    return Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
