"""A table of nftables whose elements belong to attachments: one for any number of containers.

Each element's comment is the owner of the attachment (`Request.owner`). An attachment's elements can therefore be found
after its namespace and its result are gone, and those of others are never touched.
"""

from __future__ import annotations

import errno

from netlab.cni.plugins import repair
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.nftables import elements
from netlab.net.nftables.socket import Nfnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netlab.net.nftables.elements import Element, Set

    Elements = dict[Set, list[Element]]

_ATTEMPTS = 100
"""Every attempt after the first is for a change that another process made in between."""


class Table:
    """A table: `name` with its family (`inet NAME`), the nft text that creates or repairs it, and its sets.

    For each set, the length in bytes of the part of its keys that names the subject: a container's address or port.
    """

    __slots__ = ("name", "sets", "text")

    def __init__(self, name: str, text: str, sets: dict[Set, int]) -> None:
        self.name = name
        self.text = text
        self.sets = sets

    def add(self, environment: Mapping[str, str], wanted: Elements) -> None:
        """Add elements, all or none, to the table as its layout says. Raises `CniError`, `NetlinkError`.

        Existing elements for the same address are leftovers: IPAM gives an address to one container at a time.
        """
        messages = [message for where, found in wanted.items() for message in elements.addition(where, found)]
        with Nfnetlink() as kernel:
            for _ in range(_ATTEMPTS):
                repair.ensure(kernel, environment, self.name, lambda _: self.text)
                try:
                    kernel.commit(messages)
                except NetlinkError as error:
                    if error.errno == errno.EEXIST:
                        self._remove_about(kernel, wanted)
                    elif error.errno != errno.ENOENT:
                        raise
                else:
                    return
        raise CniError(errors.TRY_AGAIN, f"table {self.name}: other processes kept changing it; try again")

    def remove(self, kernel: Nfnetlink, unwanted: Callable[[str], bool]) -> None:
        """Delete the elements of those owners, all or none; a missing table has none. Raises `NetlinkError`."""
        kernel.remove(self.sets, lambda _, element: unwanted(element.comment))

    def check(self, environment: Mapping[str, str], wanted: Elements) -> None:
        """Check that the table is unchanged and has these elements. Raises `CniError`, `NetlinkError`."""
        from netlab.cni.plugins.nft import difference

        if said := difference(environment, self.name, self.text):
            raise errors.broken(f"table {self.name}", said)
        with Nfnetlink() as kernel:
            for where, elements in wanted.items():
                present = set(kernel.elements(where))
                for element in elements:
                    if element not in present:
                        raise errors.broken(f"{where}", f"the element of {element.comment} is missing: {element!r}")

    def _remove_about(self, kernel: Nfnetlink, wanted: Elements) -> None:
        about = {where: {element.key[: self.sets[where]] for element in found} for where, found in wanted.items()}
        kernel.remove(wanted, lambda where, element: element.key[: self.sets[where]] in about[where])
