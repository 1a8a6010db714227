"""The cluster that a lab's node has joined, as this host knows it.

It is written beside the lab's directory, where nobody in the lab can write: who could would have the monitor, or who
starts the lab again, connect to anything that the host reaches. What is in lab.json is for the lab itself.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from netlab import files
from netlab.errors import NetlabError
from netlab.lab.paths import LabPaths
from netlab.lab.spec import Join


def note_of(paths: LabPaths) -> Path:
    """The file that says which cluster it is."""
    return paths.directory.with_name(f"{paths.name}.joined")


def write(paths: LabPaths, joins: Join) -> None:
    """Note it. Raises `OSError`."""
    files.replace(note_of(paths), msgspec.json.encode(joins).decode())


def read(paths: LabPaths) -> Join:
    """What was noted. Raises `NetlabError` when that cannot be read."""
    note = note_of(paths)
    try:
        return msgspec.json.decode(note.read_bytes(), type=Join)
    except (OSError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NetlabError(
            f"{note} cannot be read: {reason}; `netlab down --name {paths.name}` removes the node, to be joined anew"
        ) from None
