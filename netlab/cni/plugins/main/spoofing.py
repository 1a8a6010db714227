"""`macspoofchk`: a container can only send from the MAC address of its interface."""

from __future__ import annotations

from netlab.cni.plugins.main.owned_table import Table
from netlab.cni.spec.names import IFNAMSIZ
from netlab.net.nftables.elements import Element, Set, concatenated
from netlab.net.route import packed_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.owned_table import Elements

_NAME = "netlab_cni_macspoofchk"
_TEXT = f"""\
table bridge {_NAME} {{
    set ports {{
        type ifname
    }}
    set senders {{
        type ifname . ether_addr
    }}
    chain prerouting {{
        type filter hook prerouting priority dstnat; policy accept;
    }}
}}
flush chain bridge {_NAME} prerouting
table bridge {_NAME} {{
    chain prerouting {{
        iifname . ether saddr @senders return
        iifname @ports drop
    }}
}}
"""
_PORTS = Set("bridge", _NAME, "ports")
_SENDERS = Set("bridge", _NAME, "senders")

TABLE = Table(f"bridge {_NAME}", _TEXT, {_PORTS: IFNAMSIZ, _SENDERS: IFNAMSIZ})


def elements(owner: str, port: str, mac: str) -> Elements:
    """The table's elements for a container: its bridge port, and its MAC address with that port."""
    name = port.encode().ljust(IFNAMSIZ, b"\0")
    sender = concatenated(name, packed_mac(mac))
    return {_PORTS: [Element(name, comment=owner)], _SENDERS: [Element(sender, comment=owner)]}
