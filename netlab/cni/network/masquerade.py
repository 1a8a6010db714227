"""`ipMasq`: what a container sends out of its own subnets leaves with an address of the node.

The semantics are those of the Go plugin, whichever ipMasqBackend is asked for: neither what stays within the subnet of
the container's address nor multicast is translated. An address is one element in each of two sets, whatever the number
of networks, and the rules are four.
"""

from __future__ import annotations

from netlab.cni.network.tables import Table
from netlab.net.nfelements import Element, Set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.network.addressing import Addressing
    from netlab.cni.network.tables import Elements

_NAME = "netlab_cni_masquerade"
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
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
    }}
}}
flush chain inet {_NAME} postrouting
table inet {_NAME} {{
    chain postrouting {{
        ip saddr . ip daddr @inside4 return
        ip6 saddr . ip6 daddr @inside6 return
        ip saddr @pods4 ip daddr != 224.0.0.0/4 masquerade
        ip6 saddr @pods6 ip6 daddr != ff00::/8 masquerade
    }}
}}
"""
_PODS = {bits: Set("inet", _NAME, name) for bits, name in ((32, "pods4"), (128, "pods6"))}
_INSIDE = {bits: Set("inet", _NAME, name) for bits, name in ((32, "inside4"), (128, "inside6"))}

TABLE = Table(f"inet {_NAME}", _TEXT, {_PODS[32]: 4, _INSIDE[32]: 4, _PODS[128]: 16, _INSIDE[128]: 16})


def elements(owner: str, addressing: Addressing) -> Elements:
    """What the table has for a container."""
    wanted: Elements = {}
    for subnet in addressing.subnets:
        first, last = (end.to_bytes(subnet.bits // 8, "big") for end in (subnet.first, subnet.last))
        wanted.setdefault(_PODS[subnet.bits], []).append(Element(subnet.packed, comment=owner))
        wanted.setdefault(_INSIDE[subnet.bits], []).append(
            Element(subnet.packed + first, comment=owner, key_end=subnet.packed + last)
        )
    return wanted
