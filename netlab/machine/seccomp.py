"""The system calls that a container may not make: those that the default profile of Docker and containerd refuses.

That profile (RuntimeDefault in Kubernetes) lists the calls allowed to root with only the default capabilities. This
module has the others, by number, and compiles them to a classic BPF program (seccomp(2)): a binary search, which
decides a call in about ten steps. A call newer than the profile gets ENOSYS, as from a kernel that does not know it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_REFUSED = (
    # Mounts, namespaces, the host's name.
    *("mount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount"),
    *("fspick", "unshare", "setns", "sethostname", "setdomainname", "quotactl", "quotactl_fd", "open_by_handle_at"),
    # The kernel: modules, kexec, clock, log, devices.
    *("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
    *("kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "settimeofday", "clock_settime"),
    *("clock_adjtime", "syslog", "iopl", "ioperm", "vhangup", "lookup_dcookie", "nfsservctl", "_sysctl", "sysfs"),
    *("uselib", "ustat", "afs_syscall", "tuxcall", "security", "getpmsg", "putpmsg", "vserver", "lsm_set_self_attr"),
    # Parts of the kernel with past vulnerabilities: bpf, perf events, keys, userfaultfd, io_uring.
    *("bpf", "perf_event_open", "fanotify_init", "add_key", "request_key", "keyctl", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # Other processes, and memory placement.
    *("kcmp", "pidfd_getfd", "process_madvise", "migrate_pages", "move_pages", "mbind", "get_mempolicy"),
    *("set_mempolicy", "set_mempolicy_home_node"),
)

_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "set_mempolicy_home_node": 450,
    "lsm_set_self_attr": 460,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
}
"""Since Linux 5.1 a call has the same number everywhere."""
_X86_64 = {
    "socket": 41, "clone": 56, "syslog": 103, "uselib": 134, "personality": 135, "ustat": 136, "sysfs": 139,
    "vhangup": 153, "pivot_root": 155, "_sysctl": 156, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
    "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "create_module": 174, "init_module": 175, "delete_module": 176, "get_kernel_syms": 177, "query_module": 178,
    "quotactl": 179, "nfsservctl": 180, "getpmsg": 181, "putpmsg": 182, "afs_syscall": 183, "tuxcall": 184,
    "security": 185, "lookup_dcookie": 212, "clock_settime": 227, "vserver": 236, "mbind": 237, "set_mempolicy": 238,
    "get_mempolicy": 239, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256,
    "unshare": 272, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304,
    "clock_adjtime": 305, "setns": 308, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321,
    "userfaultfd": 323,
}  # fmt: skip
"""arch/x86/entry/syscalls/syscall_64.tbl"""
_GENERIC = {
    "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "vhangup": 58, "quotactl": 60,
    "acct": 89, "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170,
    "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225,
    "mbind": 235, "get_mempolicy": 236, "set_mempolicy": 237, "migrate_pages": 238, "move_pages": 239,
    "perf_event_open": 241, "fanotify_init": 262, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268,
    "kcmp": 272, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
"""include/uapi/asm-generic/unistd.h, which arm64 and riscv64 follow."""
_NEWEST = 462
"""mseal, Linux 6.10: the last call that the profile knows."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a filter must know about the processor architecture."""

    audit: int
    """AUDIT_ARCH_* (include/uapi/linux/audit.h)"""
    numbers: Mapping[str, int]


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, _X86_64 | _COMMON),
    "aarch64": Architecture(0xC00000B7, _GENERIC | _COMMON),
    "riscv64": Architecture(0xC00000F3, _GENERIC | _COMMON),
}

# include/uapi/linux/seccomp.h, bpf_common.h, sched.h, socket.h
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_NEW_NAMESPACES = 0x7E020000
"""The flags CLONE_NEW* of clone(2)."""
_AF_VSOCK = 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""The default, UNAME26 (0x20000), PER_LINUX32 (8), both, and the query for the current one."""
_INSTRUCTION = struct.Struct("=HBBI")
_FEW = 4

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = ctypes.c_int(22), ctypes.c_int(38)
_MODE_FILTER = ctypes.c_ulong(2)
_ZERO, _ONE = ctypes.c_ulong(0), ctypes.c_ulong(1)

_Step = tuple[int, int, int, int]
_libc = ctypes.CDLL(None, use_errno=True)


def program(architecture: Architecture) -> bytes:
    """The filter in the kernel's form: instructions of eight bytes."""
    numbers = architecture.numbers
    answers: dict[int, list[_Step]] = {numbers[name]: [_answer(errno.EPERM)] for name in _REFUSED if name in numbers}
    # A filter cannot see the flags of clone3. The C library tries it first, and falls back to clone.
    answers[numbers["clone3"]] = [_answer(errno.ENOSYS)]
    answers[numbers["clone"]] = [
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        _answer(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    answers[numbers["socket"]] = [
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, _AF_VSOCK),
        _answer(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    answers[numbers["personality"]] = [
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *[(_EQUAL, len(_PERSONALITIES) - place, 0, each) for place, each in enumerate(_PERSONALITIES)],
        _answer(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    head: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture.audit),
        _answer(errno.ENOSYS),  # 32-bit programs
        (_LOAD, 0, 0, _NUMBER),
        (_ABOVE, 0, 1, _NEWEST),
        _answer(errno.ENOSYS),
    ]
    return b"".join(_INSTRUCTION.pack(*step) for step in [*head, *_search(sorted(answers.items()))])


def confine(*, filtered: bool = True) -> None:
    """Permanently refuse these calls, and new privileges by execve(2), to this process and all its descendants.

    Not `filtered`, only new privileges are refused.
    On an architecture that is not in ARCHITECTURES, only new privileges are refused. Raises `OSError`.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, _ONE, _ZERO)
    if filtered and _PROGRAM:
        _prctl(_PR_SET_SECCOMP, _MODE_FILTER, _FILTER_AT)


def _answer(number: int) -> _Step:
    return (_RETURN, 0, 0, _ERRNO | number)


def _search(answers: list[tuple[int, list[_Step]]]) -> list[_Step]:
    """Steps that find the answer to a call's number, or allow the call."""
    if len(answers) <= _FEW:
        steps: list[_Step] = []
        for number, answer in answers:
            steps += [(_EQUAL, 0, len(answer), number), *answer]
        return [*steps, (_RETURN, 0, 0, _ALLOW)]
    middle = len(answers) // 2
    low, high = _search(answers[:middle]), _search(answers[middle:])
    return [(_ABOVE, len(low), 0, answers[middle - 1][0]), *low, *high]


def _prctl(option: ctypes.c_int, first: ctypes.c_ulong, second: ctypes.c_ulong) -> None:
    if _libc.prctl(option, first, second, _ZERO, _ZERO) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl {option.value}")


class _Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


_ARCHITECTURE_HERE = ARCHITECTURES.get(os.uname().machine)
_PROGRAM = program(_ARCHITECTURE_HERE) if _ARCHITECTURE_HERE is not None else b""
_BUFFER = ctypes.create_string_buffer(_PROGRAM, max(1, len(_PROGRAM)))
_FILTER = _Filter(len(_PROGRAM) // _INSTRUCTION.size, ctypes.addressof(_BUFFER))
_FILTER_AT = ctypes.c_ulong(ctypes.addressof(_FILTER))
