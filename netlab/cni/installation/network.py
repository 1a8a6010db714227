"""A network to install with the plugins: its configuration list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from netlab.cni.installation.subnets import parse_subnets
from netlab.cni.spec.names import IFNAMSIZ, is_identifier
from netlab.errors import UsageError

Object = dict[str, Any]


def network_list(
    name: str, subnets: Sequence[str], mode: str = "bridge", *, device: str = "", peers_file: str = ""
) -> Object:
    """A network that works as it is: masqueraded access to the outside, published ports, and bandwidth limits.

    `subnets` are of either family; each container gets one address of each family. `device` is the link to the other
    nodes and `peers_file` describes them, for mode vxlan. Raises `UsageError`.
    """
    if not is_identifier(name):
        raise UsageError(
            f"network {name!r}: must consist of letters, digits, '_', '.' and '-', and start with a letter or digit"
        )
    ranges: dict[int, list[Object]] = {}
    for subnet in parse_subnets(subnets):
        ranges.setdefault(subnet.version, []).append({"subnet": str(subnet)})
    main: Object = {"type": "netlab", "mode": mode}
    if mode != "routed":
        main |= {"bridge": _bridge_name(name), "hairpinMode": True}
    if mode == "vxlan":
        main["vxlan"] = {"device": device} | ({"peersFile": peers_file} if peers_file else {})
    main |= {
        "isDefaultGateway": True,
        "ipMasq": True,
        "capabilities": {"ips": True, "mac": True, "ipRanges": True, "dns": True},
        "ipam": {"type": "netlab-ipam", "ranges": list(ranges.values())},
    }
    return {
        # What every current runtime knows, and what newer ones can use (SPEC.md 1.1.0, section 1).
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": name,
        "plugins": [
            main,
            {"type": "netlab-portmap", "capabilities": {"portMappings": True}},
            {"type": "netlab-bandwidth", "capabilities": {"bandwidth": True}},
        ],
    }


def _bridge_name(network: str) -> str:
    name = f"cni-{network}"
    return name if len(name) < IFNAMSIZ else f"cni-{hashlib.sha256(network.encode()).hexdigest()[:11]}"
