"""The cgroups that bound a lab: taken when its monitor starts, noted in the lab's directory, given back by `down`."""

from __future__ import annotations

import contextlib
import os
import sys

from netlab import files
from netlab.errors import NetlabError, UnsupportedError
from netlab.lab.paths import LabPaths
from netlab.machine.cgroups import hierarchies, labs, systemd
from netlab.machine.cgroups.hierarchies import Found
from netlab.machine.cgroups.labs import LabCgroup
from netlab.machine.cgroups.limits import Limits

_SHARE_OF_MEMORY = 2
"""A lab may have one half of the machine's memory: an idle lab of a hundred nodes takes a few GiB, and the host keeps
as much."""
_MOST_PROCESSES = 16384
"""Several times what a thousand pods have; as without cgroups (netlab.machine.boot)."""


def share() -> Limits:
    """What a lab may have of this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Limits(memory=memory // _SHARE_OF_MEMORY, pids=_MOST_PROCESSES)


def find(name: str) -> Found:
    """Where the cgroup of the lab called `name` can be made.

    An ordinary user's process may be moved into a scope of the user's systemd for that.
    """
    found = hierarchies.find()
    if found.lacking and os.geteuid() != 0 and found.unified:
        if not systemd.lingers():
            remedy = "; `loginctl enable-linger` has systemd give your labs one"
            found.lacking = {controller: reason + remedy for controller, reason in found.lacking.items()}
            return found
        try:
            systemd.move_into_scope(f"{labs.PREFIX}{name}.scope")
        except UnsupportedError as error:
            found.lacking = {controller: f"{reason}; {error}" for controller, reason in found.lacking.items()}
        else:
            found = hierarchies.find()
    return found


def take(paths: LabPaths, owner: int) -> list[LabCgroup]:
    """Make the lab's cgroups and move this process, the lab's monitor, into them. Returns those there are.

    `owner` is the lab's root on this host. A machine that allows none costs the lab its limits and nothing else:
    `netlab doctor` says why.
    """
    give_back(paths)
    name = f"{paths.name}-{paths.boot_id.read_text(encoding='ascii')[:8]}"
    made = labs.plan(find(name).parents, name)
    if not made:
        return []
    # Before they are made, so that `netlab down` finds them whatever happens.
    files.replace(paths.cgroups, "".join(f"{each.path}\n" for each in made))
    try:
        labs.enter(made, share(), owner)
    except OSError as error:
        print(f"the lab has no limits: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        return []
    return made


def give_back(paths: LabPaths) -> None:
    """Remove the cgroups of an earlier boot of the lab, which is down. Raises `NetlabError` if one cannot be."""
    try:
        with paths.cgroups.open(encoding="utf-8") as file:
            # A lab's root can put another file there, and root on this host must not follow it.
            if os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                return
            noted = file.read().splitlines()
    except (OSError, ValueError):
        return
    try:
        labs.remove(noted)
    except OSError as error:
        raise NetlabError(f"lab {paths.name}: cgroup {error.filename} cannot be removed: {error.strerror}") from error
    with contextlib.suppress(FileNotFoundError):
        paths.cgroups.unlink()
