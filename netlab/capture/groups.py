"""Letting a program that insists on setgroups(2) run in a user namespace that denies it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from netlab.errors import UnsupportedError

_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "loongarch64": 159, "ppc64le": 81, "s390x": 206}

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_SECCOMP_RET_ERRNO, _SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


class _Instruction(ctypes.Structure):
    """struct sock_filter (linux/filter.h)."""

    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def pretend_setgroups() -> None:
    """Where setgroups(2) is denied, have it return 0 and do nothing, in this process and in what it executes.

    The user namespace of an ordinary user must deny it (user_namespaces(7), "The /proc/pid/setgroups file"); there are
    no groups to give up there, so nothing is lost. Raises `UnsupportedError` when the kernel has no such filters.
    """
    if Path("/proc/self/setgroups").read_text(encoding="ascii").strip() != "deny":
        return
    machine = os.uname().machine
    number = _SYS_SETGROUPS.get(machine)
    if number is None:
        raise UnsupportedError(f"packets cannot be captured by an ordinary user on {machine}: be root")
    code = (_Instruction * 4)(
        _Instruction(_LOAD_WORD, 0, 0, 0),  # seccomp_data.nr
        _Instruction(_JUMP_IF_EQUAL, 0, 1, number),
        _Instruction(_RETURN, 0, 0, _SECCOMP_RET_ERRNO),  # with errno 0
        _Instruction(_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
    )
    program = _Program(len(code), code)
    zero = ctypes.c_ulong(0)
    # Not with PR_SET_NO_NEW_PRIVS, under which AppArmor refuses the profile that distributions have for tcpdump.
    libc = ctypes.CDLL(None, use_errno=True)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    if libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), mode, ctypes.byref(program), zero, zero) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise UnsupportedError(f"packets cannot be captured by an ordinary user: seccomp: {reason}; be root")
