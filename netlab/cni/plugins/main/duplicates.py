"""`enabledad`: IPv6 duplicate address detection (RFC 4862, 5.4), which takes a second or two."""

from __future__ import annotations

import time

from netlab.cni.spec import errors
from netlab.cni.spec.addresses import format_address
from netlab.cni.spec.errors import CniError
from netlab.net.route import addresses
from netlab.net.route.addresses import addresses_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink

_TIMEOUT = 10.0  # as in the Go plugin
_INTERVAL = 0.02


def wait(kernel: Rtnetlink, link: Link) -> None:
    """Wait until no address of the link is tentative any more. Raises `CniError` if one is in use elsewhere."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        tentative = ""
        for address in addresses_of(kernel, link.index):
            text = format_address(int.from_bytes(address.packed, "big"), len(address.packed) * 8)
            if address.flags & addresses.IFA_F_DADFAILED:
                raise CniError(errors.KERNEL_REFUSED, f"link {link.name}: address {text} is also in use elsewhere")
            if address.flags & addresses.IFA_F_TENTATIVE:
                tentative = text
        if not tentative:
            return
        if time.monotonic() > deadline:
            raise CniError(
                errors.TRY_AGAIN, f"link {link.name}: address {tentative} is still tentative after {_TIMEOUT:g} s"
            )
        time.sleep(_INTERVAL)
