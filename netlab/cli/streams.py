"""Standard streams that may be closed or full: a failure to write is an error of its own, and never another file's."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

from netlab.errors import write_failure

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ReaderGoneError(Exception):
    """Who reads standard output has seen enough: `netlab get pods | head -1`."""


class _Output(io.FileIO):
    """Standard output, which raises `NetlabError` and `ReaderGoneError` instead of `OSError`.

    An `OSError` may be about anything; and click makes status 1 of every EPIPE.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderGoneError from None
        except OSError as error:
            what = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise write_failure(error)(f"standard output cannot be written to: {what}") from None


def prepare() -> None:
    """Have three standard streams, and standard output say what is wrong with it.

    In the place of a closed one there would be the next file that is opened, and what is printed would go there.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # What is written to the first two fails, as if they were closed.
            opened = os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.dup2(opened, descriptor)
            os.set_inheritable(descriptor, True)
            if opened != descriptor:
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    errors = "backslashreplace"  # what the terminal's encoding does not have is no reason to fail
    raw = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=raw.isatty())
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115


def discard() -> None:
    """Let nothing more be written to standard output: what waits to be would fail again at exit."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
