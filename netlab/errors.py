"""The errors netlab shows to people, and the exit status of each.

Every error that can reach a user is a `NetlabError`: one line that names the thing, the reason and the remedy.

    NetlabError (1)
    ├── UsageError (2)            the command line, a file or a manifest is wrong; nothing was changed
    ├── NotFoundError (3)         the named lab, object, pod, container or scenario does not exist
    ├── ConflictError (4)         it already exists, or has changed in the meantime
    ├── UnsupportedError (5)      the machine lacks something: a kernel feature, a program, a permission
    ├── UnavailableError (6)      the lab's daemon is down, or does not answer
    ├── ExhaustedError (7)        no addresses, ports or disk space are left
    ├── TimedOutError (8)         what was waited for did not happen
    ├── ChecksFailedError (9)     a scenario's check, or a doctor's, failed
    ├── DifferenceError (10)      what was observed is not what was predicted
    └── CheckError (11)           a scenario's check could not be carried out: it says nothing of the network
"""

from __future__ import annotations

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Why nothing more can be written: the disk is full, or a quota, or a file has its largest size."""


class NetlabError(Exception):
    """An error to be shown to a user as one line.

    The message names the thing, the reason and the remedy. `exit_status` is the process's exit status.
    """

    exit_status = 1


class UsageError(NetlabError):
    """The command line, a configuration file or a manifest is wrong; nothing was changed."""

    exit_status = 2


class NotFoundError(NetlabError):
    """The named lab, object, pod, container or scenario does not exist."""

    exit_status = 3


class ConflictError(NetlabError):
    """It already exists, or has changed in the meantime."""

    exit_status = 4


class UnsupportedError(NetlabError):
    """The machine lacks a kernel feature, a program or a permission."""

    exit_status = 5


class UnavailableError(NetlabError):
    """The lab's daemon is down, or does not answer."""

    exit_status = 6


class ExhaustedError(NetlabError):
    """No addresses, ports or disk space are left."""

    exit_status = 7


class TimedOutError(NetlabError):
    """What was waited for did not happen in time."""

    exit_status = 8


class ChecksFailedError(NetlabError):
    """A check of a scenario or of the doctor failed."""

    exit_status = 9


class DifferenceError(NetlabError):
    """What was observed is not what was predicted."""

    exit_status = 10


class CheckError(NetlabError):
    """A check of a scenario could not be carried out; none failed."""

    exit_status = 11


def write_failure(error: OSError) -> type[NetlabError]:
    """The class of error for a file that could not be written."""
    return ExhaustedError if error.errno in NO_ROOM else NetlabError


def innermost(error: BaseException) -> BaseException:
    """The first for people of the errors that tasks raised together, or else the first; any other error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return innermost((error.subgroup(NetlabError) or error).exceptions[0])
