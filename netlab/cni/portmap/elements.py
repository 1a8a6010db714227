"""Elements of the table in the kernel: added, looked at, deleted."""

from __future__ import annotations

import errno

from netlab.cni import errors
from netlab.cni.errors import CniError
from netlab.cni.portmap.mappings import SETS
from netlab.net.netlink import NetlinkError
from netlab.net.nfelements import Nfnetlink, addition, deletion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netlab.cni.portmap.mappings import Wanted
    from netlab.net.nfelements import Element, Set


def commit(plan: list[Wanted], mark_bit: int, environment: Mapping[str, str]) -> None:
    """Add all elements or none; with the table, if it is not there: at first use, or since somebody flushed it.

    `environment` is the caller's, to find the nft program. Raises `CniError`, also for a port that is taken, and
    `NetlinkError`.
    """
    batch = [message for item in plan for message in addition(item.where, [item.element])]
    with Nfnetlink() as kernel:
        try:
            try:
                kernel.commit(batch)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise
                from netlab.cni.portmap import table

                table.make(environment, mark_bit)
                kernel.commit(batch)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            raise _taken(kernel, plan) from error


def _taken(kernel: Nfnetlink, plan: list[Wanted]) -> CniError:
    """Which host port somebody has, and who."""
    holders = {(str(where), element.key): element.comment for where, element in present(kernel)}
    for item in plan:
        holder = holders.get((str(item.where), item.element.key))
        if holder is not None:
            return CniError(
                errors.ALREADY_RESERVED,
                f"{item.subject} is taken by {holder or 'an element without a comment'}"
                " (network/container/interface); choose another, or delete that",
            )
    # Gone since, or a range that overlaps.
    return CniError(errors.TRY_AGAIN, f"{plan[0].subject}: it, or one with it, was taken at this moment; try again")


def present(kernel: Nfnetlink) -> list[tuple[Set, Element]]:
    """All elements of the table; none if there is no table."""
    found = []
    for where in SETS:
        try:
            found += [(where, element) for element in kernel.elements(where)]
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
    return found


def remove(doomed: Callable[[str], bool]) -> list[tuple[Set, Element]]:
    """Delete the elements with such comments, and no others: which they were. Raises `NetlinkError`."""
    with Nfnetlink() as kernel:
        while True:
            generation = kernel.generation()
            found = [item for item in present(kernel) if doomed(item[1].comment)]
            messages = [message for where, element in found for message in deletion(where, [element])]
            try:
                kernel.commit(messages, generation)
            except NetlinkError as error:
                # Somebody changed something meanwhile: a port seen here may be another container's by now.
                if error.errno != errno.ERESTART:
                    raise
                continue
            return found
