"""What root may do in a container: only the capabilities that Docker and containerd leave it.

Without this, root of a lab that runs as the host's root could mount the host's file tree writable again.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Sequence

# include/uapi/linux/capability.h
_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
_ALL = {name: number for number, name in enumerate(_NAMES)}
_LEFT = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"),
    *("NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
)
_KEPT = {name: _ALL[name] for name in _LEFT}
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24

_libc = ctypes.CDLL(None, use_errno=True)

# Made once for all containers: converting the arguments of so many calls takes longer than the calls.
_ZERO = ctypes.c_ulong(0)
_DROP = ctypes.c_int(_PR_CAPBSET_DROP)
_HEADER = (ctypes.c_uint32 * 2)(_VERSION_3, 0)


class Capabilities:
    """A set of capabilities that a container may have."""

    def __init__(self, numbers: Iterable[int]) -> None:
        kept = frozenset(numbers)
        self.beyond_default = bool(kept - {*_KEPT.values()})
        """Whether some are among them that Docker and containerd do not leave a container."""
        self._dropped = tuple(ctypes.c_ulong(number) for number in range(64) if number not in kept)
        low, high = (sum(1 << number - at for number in kept if at <= number < at + 32) for at in (0, 32))
        # Two sets of effective, permitted, inheritable.
        self._sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)

    def bound(self) -> None:
        """Keep this process and its descendants from ever getting any other (the bounding set). Raises `OSError`."""
        prctl = _libc.prctl
        for number in self._dropped:
            if prctl(_DROP, number, _ZERO, _ZERO, _ZERO) < 0:
                if ctypes.get_errno() == errno.EINVAL:
                    break  # the kernel has no further capabilities
                _fail("dropping a capability")

    def take(self) -> None:
        """Have these, and no others. Raises `OSError`."""
        if _libc.capset(_HEADER, self._sets) < 0:
            _fail("setting the capabilities")


DEFAULT = Capabilities(_KEPT.values())


def chosen(add: Sequence[str], drop: Sequence[str]) -> Capabilities:
    """The default ones without those that are dropped, and those that are added. Raises `ValueError` for a name."""
    if not (add or drop):
        return DEFAULT
    for name in (*add, *drop):
        if name != "ALL" and name not in _ALL:
            raise ValueError(f"capability {name[:40]!r}: unknown; known are ALL and {', '.join(_ALL)}")
    kept = {*_ALL.values()} if "ALL" in add else set[int]() if "ALL" in drop else {*_KEPT.values()}
    kept -= {_ALL[name] for name in drop if name != "ALL"}
    return Capabilities(kept | {_ALL[name] for name in add if name != "ALL"})


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
