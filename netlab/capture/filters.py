"""Packet filters: pcap-filter(7) expressions, run by the kernel before it copies a packet."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

from netlab.capture.tagged import wherever
from netlab.errors import TimedOutError, UnsupportedError, UsageError
from netlab.net import bpf
from netlab.net.bpf import Instruction, Program
from netlab.net.route.vxlan import VXLAN_PORT

_COMPILE_TIMEOUT = 20.0
"""Seconds that tcpdump may take, as a filter may have a host name to resolve."""

_LONGEST = 4096  # BPF_MAXINSNS
_WHOLE = 0xFFFF_FFFF

# Classic BPF (linux/bpf_common.h), the part needed to rewrite programs.
_CLASS, _LD, _LDX, _JMP, _RET = 0x07, 0x00, 0x01, 0x05, 0x06
_MODE, _ABS, _IND, _MSH = 0xE0, 0x20, 0x40, 0xA0
_LOAD_HALF, _LOAD_BYTE, _AND, _JUMP, _JUMP_IF_EQUAL, _JUMP_IF_SET = 0x28, 0x30, 0x54, 0x05, 0x15, 0x45
_ANCILLARY = 0xFFFF_F000 - 1
"""Loads beyond this offset read the kernel's metadata, not the packet (SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF)."""

_ETHERNET, _IPV4, _IPV6, _UDP, _VXLAN = 14, 20, 40, 8, 8


def compile_filter(expression: str) -> Program:
    """The program that accepts packets which match `expression` (pcap-filter(7)).

    A packet matches itself, or by the packet that VXLAN carries in it: a connection is seen inside the tunnel too. An
    empty expression accepts everything. VLAN tags match where they are on the wire, wherever the kernel keeps them.
    Raises `UsageError` with tcpdump's message for an invalid expression, `UnsupportedError` if tcpdump is not
    installed, `TimedOutError` when a name in the expression cannot be resolved in time.
    """
    if not expression.strip():
        return (Instruction(_RET, 0, 0, _WHOLE),)
    argv = [_tcpdump(), "-ddd", "-y", "EN10MB", "--", expression]
    try:
        compiled = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimedOutError(
            f"filter {expression!r}: a name in it could not be resolved in time; use its address"
        ) from None
    except ValueError as error:  # a NUL among the arguments
        raise UsageError(f"filter {expression!r}: {error}") from None
    if compiled.returncode:
        raise UsageError(f"filter {expression!r}: {_last_words(compiled.stderr)}; see `man pcap-filter`")
    given = parse(compiled.stdout)
    program = wherever(in_tunnel_too(given), given)
    if len(program) > _LONGEST:
        raise UsageError(
            f"filter {expression!r}: too long: {len(program)} instructions, at most {_LONGEST} are possible"
        )
    return program


def parse(text: str) -> Program:
    """Parse the output of `tcpdump -ddd`: the number of instructions, and a line of four numbers for each."""
    return tuple(Instruction(*map(int, line.split())) for line in text.splitlines()[1:])


def in_tunnel_too(program: Program) -> Program:
    """The same program, applied also to the inner packet of VXLAN (RFC 7348) if the outer one does not match."""
    over_ipv4, over_ipv6 = _ETHERNET + _IPV4 + _UDP + _VXLAN, _ETHERNET + _IPV6 + _UDP + _VXLAN
    return (
        *_or_go_on(program),
        *_inner(program, over_ipv4, socket_type=0x0800, protocol_at=23, first_byte_at=14, fragment_at=20),
        *_inner(program, over_ipv6, socket_type=0x86DD, protocol_at=20, first_byte_at=None, fragment_at=None),
        Instruction(_RET, 0, 0, 0),
    )


def attach(taker: socket.socket, program: Program, snaplen: int) -> None:
    """Have the kernel apply a program to a socket's packets from now on, and keep `snaplen` bytes of each.

    Raises `UsageError` when the kernel finds it too large.
    """
    kept = [each._replace(k=snaplen) if each.code == _RET and each.k else each for each in program]
    try:
        bpf.attach(taker, kept)
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EINVAL):
            reason = f"{len(program)} instructions are more than this kernel accepts; shorten it"
            raise UsageError(f"the filter is refused: {reason}") from error
        raise


def _or_go_on(program: Sequence[Instruction]) -> list[Instruction]:
    """The program, changed to jump to its end where it would reject the packet."""
    return [
        Instruction(_JUMP, 0, 0, len(program) - index - 1) if _refuses(each) else each
        for index, each in enumerate(program)
    ]


def _inner(
    program: Program,
    shift: int,
    *,
    socket_type: int,
    protocol_at: int,
    first_byte_at: int | None,
    fragment_at: int | None,
) -> list[Instruction]:
    """The program for the inner packet, `shift` bytes into the outer one, if that is VXLAN over this protocol."""
    body = [_shifted(each, shift) for each in _or_go_on(program)]
    udp_port_at = shift - _VXLAN - _UDP + 2
    # Each test: load, offset, expected value.
    tests = [(_LOAD_HALF, 12, socket_type), (_LOAD_BYTE, protocol_at, socket.IPPROTO_UDP)]
    if first_byte_at is not None:  # no IP options, so that the offsets are right
        tests.append((_LOAD_BYTE, first_byte_at, 0x45))
    tests.append((_LOAD_HALF, udp_port_at, VXLAN_PORT))
    head: list[Instruction] = []
    for code, offset, wanted in tests:
        head += [Instruction(code, 0, 0, offset), Instruction(_JUMP_IF_EQUAL, 1, 0, wanted), _LEAVE]
    if fragment_at is not None:
        head += [Instruction(_LOAD_HALF, 0, 0, fragment_at), Instruction(_JUMP_IF_SET, 0, 1, 0x1FFF), _LEAVE]
    whole = [*head, *body]
    # A conditional jump reaches only 255 instructions, an unconditional one any number.
    return [
        Instruction(_JUMP, 0, 0, len(whole) - index - 1) if each is _LEAVE else each for index, each in enumerate(whole)
    ]


_LEAVE = Instruction(_JUMP, 0, 0, 0)


def _shifted(instruction: Instruction, shift: int) -> Instruction:
    kind, mode = instruction.code & _CLASS, instruction.code & _MODE
    loads = (kind == _LD and mode in (_ABS, _IND)) or (kind == _LDX and mode == _MSH)
    return instruction._replace(k=instruction.k + shift) if loads and instruction.k <= _ANCILLARY else instruction


def _refuses(instruction: Instruction) -> bool:
    return instruction.code == _RET and not instruction.k


def _tcpdump() -> str:
    # Some distributions install it outside an ordinary user's PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    program = shutil.which("tcpdump", path=path)
    if program is None:
        raise UnsupportedError("filters need tcpdump, which is not installed; install the package tcpdump")
    return program


def _last_words(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("tcpdump: ") if lines else "tcpdump gives no reason"
