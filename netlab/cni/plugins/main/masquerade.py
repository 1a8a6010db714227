"""`ipMasq`: what a container sends beyond its own subnets leaves with the node's address.

The semantics are the Go plugin's, for either ipMasqBackend: traffic within the subnet of the container's address and
multicast are not translated, nor what goes to `nonMasqueradeCIDRs`. An address is a few elements of a few sets; there
are six rules, whatever the number of containers and networks.
"""

from __future__ import annotations

from netlab.cni.plugins.main.owned_table import Table
from netlab.cni.spec.names import IFNAMSIZ
from netlab.net.nftables.elements import Element, Set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.main.owned_table import Elements
    from netlab.cni.spec.addresses import Prefix

_NAME = "netlab_cni_masquerade"
# After kube-proxy's chain (srcnat), which masquerades for reasons of its own.
_TEXT = f"""\
table inet {_NAME} {{
    set pods4 {{
        type ipv4_addr
    }}
    set pods6 {{
        type ipv6_addr
    }}
    set inside4 {{
        type ipv4_addr . ipv4_addr
        flags interval
    }}
    set inside6 {{
        type ipv6_addr . ipv6_addr
        flags interval
    }}
    set overlay4 {{
        type ipv4_addr . ifname
    }}
    set overlay6 {{
        type ipv6_addr . ifname
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat + 10; policy accept;
    }}
}}
flush chain inet {_NAME} postrouting
table inet {_NAME} {{
    chain postrouting {{
        ip saddr . ip daddr @inside4 return
        ip6 saddr . ip6 daddr @inside6 return
        ip saddr . oifname @overlay4 return
        ip6 saddr . oifname @overlay6 return
        ip saddr @pods4 ip daddr != 224.0.0.0/4 masquerade
        ip6 saddr @pods6 ip6 daddr != ff00::/8 masquerade
    }}
}}
"""
_PODS = {bits: Set("inet", _NAME, name) for bits, name in ((32, "pods4"), (128, "pods6"))}
_INSIDE = {bits: Set("inet", _NAME, name) for bits, name in ((32, "inside4"), (128, "inside6"))}
_OVERLAY = {bits: Set("inet", _NAME, name) for bits, name in ((32, "overlay4"), (128, "overlay6"))}

TABLE = Table(
    f"inet {_NAME}", _TEXT, {sets[bits]: bits // 8 for sets in (_PODS, _INSIDE, _OVERLAY) for bits in (32, 128)}
)


def elements(owner: str, addressing: Addressing, overlay: str, excepted: Iterable[Prefix] = ()) -> Elements:
    """The table's elements for a container; `overlay` is the link to other nodes' containers, if any.

    What goes to a subnet in `excepted` is not translated.
    For an address whose subnet is unknown (the result of a routed container), only the address itself is inside.
    """
    wanted: Elements = {}
    for subnet in addressing.subnets:
        wanted.setdefault(_PODS[subnet.bits], []).append(Element(subnet.packed, comment=owner))
        for inside in _widest([subnet, *(each for each in excepted if each.bits == subnet.bits)]):
            first, last = (end.to_bytes(subnet.bits // 8, "big") for end in (inside.first, inside.last))
            if first != last:
                wanted.setdefault(_INSIDE[subnet.bits], []).append(
                    Element(subnet.packed + first, comment=owner, key_end=subnet.packed + last)
                )
        if overlay:
            link = overlay.encode().ljust(IFNAMSIZ, b"\0")
            wanted.setdefault(_OVERLAY[subnet.bits], []).append(Element(subnet.packed + link, comment=owner))
    return wanted


def _widest(subnets: Iterable[Prefix]) -> list[Prefix]:
    """The subnets without those that are part of another: the elements of a set must not overlap."""
    found: list[Prefix] = []
    for subnet in sorted(subnets, key=lambda each: each.length):
        if not any(subnet.first in wider for wider in found):
            found.append(subnet)
    return found
