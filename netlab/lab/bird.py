"""The lab's router, if nodes announce load balancers' addresses by BGP: bird (https://bird.nic.cz), in the outside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from netlab import files
from netlab.errors import UnsupportedError
from netlab.lab.spec import LabSpec
from netlab.net.addresses import Family, of_family

ROUTER_AS, NODES_AS = 64513, 64512
"""Private AS numbers (RFC 6996)."""

_DIRECTORY = Path("/run/netlab/bird")
"""In the outside's own /run."""
_LENGTHS: dict[Family, int] = {"IPv4": 32, "IPv6": 128}


def configuration(spec: LabSpec) -> str:
    """bird.conf: sessions with all nodes, which may announce single addresses of the pools, and ECMP in the kernel.

    Any node that is there may connect: the router needs no new configuration when nodes come and go.
    """
    lines = [
        "log stderr { info, remote, warning, error, auth, fatal, bug };",
        "router id 192.0.2.253;",
        "protocol device { }",
    ]
    for family in spec.families:
        only = f"{family.lower()} {{ import none; export where source = RTS_BGP; }};"
        lines.append(f"protocol kernel {{ merge paths yes; {only} }}")
    lines += [
        "protocol bgp nodes {",
        f"  local {spec.outside_addresses[0]} as {ROUTER_AS};",
        f"  neighbor range {spec.underlay(spec.underlay_family)} as {NODES_AS};",
        '  dynamic name "node";',
        # A node that comes back is heard at once, and not after the minute that suits routers of the world.
        "  error wait time 1, 4;",
    ]
    for family in spec.families:
        length = _LENGTHS[family]
        single = ", ".join(f"{pool}{{{length},{length}}}" for pool in of_family(spec.loadBalancerPools, family))
        accepted = f"where net ~ [ {single} ]" if single else "none"
        lines.append(f"  {family.lower()} {{ import {accepted}; export none; }};")
    return "\n".join([*lines, "}", ""])


def execute(spec: LabSpec) -> None:
    """Become bird, in the outside. Raises UnsupportedError if it is not installed."""
    program = shutil.which("bird") or shutil.which("bird", path="/usr/sbin")
    if program is None:
        raise UnsupportedError("no program 'bird' on the PATH; install bird2")
    _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = _DIRECTORY / "bird.conf"
    files.replace(config, configuration(spec))
    arguments = [program, "-f", "-c", str(config), "-s", str(_DIRECTORY / "bird.ctl")]
    os.execv(program, arguments)  # noqa: S606 - no shell is the point
