"""UDP flows to host ports that have been mapped or unmapped."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6

from netlab.net.conntrack.flows import Conntrack
from netlab.net.route.addresses import addresses_of
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOPBACK = 127


def forget(ports: Iterable[tuple[int, bytes, int]]) -> None:
    """Forget the flows to these ports: the bits of the family's addresses, the address dialled (empty: any), the port.

    Only those to addresses of this node; those that it forwards to the same port elsewhere go on. Raises `OSError`.
    """
    kernel = Rtnetlink()
    try:
        own = {address.packed for address in addresses_of(kernel, 0)}
    finally:
        kernel.close()
    with Conntrack() as conntrack:
        for bits, dialled, port in ports:
            stale = []
            for flow in conntrack.udp_flows(AF_INET if bits == 32 else AF_INET6, port):
                to = flow.sent_to[:-2]
                if to == dialled or (not dialled and (to in own or (bits == 32 and to[0] == _LOOPBACK))):
                    stale.append(flow)
            conntrack.forget(stale)
