"""What root may do in a container: only the capabilities that Docker and containerd leave it.

Without this, root of a lab that runs as the host's root could mount the host's file tree writable again.
"""

from __future__ import annotations

import ctypes
import errno
import os

# include/uapi/linux/capability.h
_KEPT = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24

_libc = ctypes.CDLL(None, use_errno=True)

# Made once for all containers: converting the arguments of so many calls takes longer than the calls.
_ZERO = ctypes.c_ulong(0)
_DROP = ctypes.c_int(_PR_CAPBSET_DROP)
_DROPPED = tuple(ctypes.c_ulong(number) for number in range(64) if number not in _KEPT.values())
_HEADER = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
_SUM = sum(1 << number for number in _KEPT.values())
_SETS = (ctypes.c_uint32 * 6)(_SUM, _SUM, 0, 0, 0, 0)
"""Two sets of effective, permitted, inheritable: capabilities 0-31, and 32-63, all of which are dropped."""


def drop_capabilities() -> None:
    """Drop every capability that a container does not have by default, permanently and for all descendants."""
    prctl = _libc.prctl
    for number in _DROPPED:
        if prctl(_DROP, number, _ZERO, _ZERO, _ZERO) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # the kernel has no further capabilities
            _fail("dropping a capability")
    if _libc.capset(_HEADER, _SETS) < 0:
        _fail("setting the capabilities")


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
