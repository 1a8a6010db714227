"""What the two clients of a machine share: they encode requests and decode replies.

Both raise `MachineError` when the machine refuses (its `errno` says why: ENOENT no such container, EEXIST it exists
already, EINVAL a bad request, ENOSPC a full disk ...) and `UnavailableError` when the machine does not answer.
"""

from __future__ import annotations

import contextlib
import errno
import json
from binascii import a2b_base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from netlab.errors import NetlabError, UnavailableError
from netlab.machine.protocol import ExecResult


class MachineError(NetlabError):
    """A machine refused a request, or could not carry it out. `errno` is the kernel's number, or 0."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


def encode(op: str, arguments: Mapping[str, Any]) -> bytes:
    """A request as a line."""
    return json.dumps({"op": op, **arguments}).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The value in a machine's reply. Raises `MachineError`."""
    with contextlib.suppress(ValueError):
        reply = json.loads(line)
        if "ok" in reply:
            return reply["ok"]
        raise MachineError(reply["error"], reply["errno"])
    raise MachineError(f"not a machine's reply: {line[:80]!r}", errno.EBADMSG)


def exec_result(value: dict[str, Any]) -> ExecResult:
    """The result of a command, from the value in the reply."""
    return ExecResult(exit_code=value["exit_code"], output=a2b_base64(value["output"]), timed_out=value["timed_out"])


def raise_unavailable(path: Path, error: OSError | None) -> NoReturn:
    """Raise `UnavailableError`: a machine does not answer, or (no `error`) has closed the connection."""
    reason = "it closed the connection" if error is None else error.strerror or str(error)
    raise UnavailableError(f"machine {path.stem} does not answer on {path}: {reason}; is the lab up?") from error
