"""Adding a container's elements to the table.

If two containers want one port, the second gets an error that names the first.
"""

from __future__ import annotations

import errno

from netlab.cni.plugins import repair
from netlab.cni.plugins.portmap.plan import SETS, TABLE
from netlab.cni.plugins.portmap.ruleset import bits_of, text
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.nftables.elements import addition
from netlab.net.nftables.socket import Nfnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from netlab.cni.plugins.portmap.plan import Wanted


def commit(plan: list[Wanted], mark_bit: int, environment: Mapping[str, str]) -> None:
    """Add all elements or none, to the table as its layout says.

    `environment` is the caller's, to find the nft program. Raises `CniError`, also for a port that is taken, and
    `NetlinkError`.
    """
    batch = [message for item in plan for message in addition(item.where, [item.element])]
    with Nfnetlink() as kernel:
        repair.ensure(kernel, environment, f"inet {TABLE}", lambda chains: text({mark_bit, *bits_of(chains)}))
        try:
            kernel.commit(batch)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            raise _taken(kernel, plan) from error


def _taken(kernel: Nfnetlink, plan: list[Wanted]) -> CniError:
    """The error that says which host port is taken, and by whom."""
    holders = {(where, element.key): element.comment for where in SETS for element in kernel.elements(where)}
    for item in plan:
        holder = holders.get((item.where, item.element.key))
        if holder is not None:
            return CniError(
                errors.ALREADY_RESERVED,
                f"{item.subject} is taken by {holder or 'an element without a comment'}"
                " (network/container/interface); choose another, or delete that",
            )
    # Gone in the meantime, or an overlapping range.
    return CniError(errors.TRY_AGAIN, f"{plan[0].subject}: it was taken just now, or one with it was; try again")
