"""Makes one node's kernel match its PodNetwork, through pyroute2 and nft."""

from __future__ import annotations

import ipaddress
import subprocess

from pyroute2 import IPRoute

from netlab.errors import NetlabError
from netlab.net import links, overlay_apply
from netlab.node.network import BRIDGE, VXLAN, VXLAN_ID, NetworkConfig, PodNetwork, PodRoute

VXLAN_PORT = 4789
"""IANA's port (RFC 7348), which packet tools decode by default; flannel uses the kernel's older 8472."""

_TABLE = "netlab-egress"


def apply(config: NetworkConfig, wanted: PodNetwork, applied: PodNetwork | None) -> str | None:
    """Apply `wanted`, and remove what only `applied` had. Returns the VXLAN device's MAC, or None if it was not read.

    With `applied` None (at the start, or after a failure) everything is checked, and what an earlier agent left for
    former peers is removed too; otherwise only the difference is applied. Blocking. Raises `NetlabError` naming the
    object.
    """
    if applied is None or _own_part(applied) != _own_part(wanted):
        return _apply_all(config, wanted)
    if wanted.vtep:
        overlay_apply.change(VXLAN, applied.overlay, wanted.overlay)
    _change_routes(config, applied.routes, wanted.routes)
    return None


def _own_part(network: PodNetwork) -> object:
    """The part that concerns the node itself, not its peers."""
    return (network.pod_cidrs, network.vtep, network.bridge_addresses)


def _apply_all(config: NetworkConfig, wanted: PodNetwork) -> str | None:
    _masquerade(config, wanted)
    with IPRoute() as ip:
        mac = None
        if wanted.vtep:
            mac = _ensure_vtep(ip, config, wanted)
            overlay_apply.change(VXLAN, overlay_apply.read(ip, VXLAN), wanted.overlay)
        if wanted.bridge_addresses:
            _ensure_segment(ip, config, wanted)
        _change_routes(config, frozenset(), wanted.routes)
        _remove_strays(ip, config, wanted)
    return mac


def _change_routes(config: NetworkConfig, before: frozenset[PodRoute], wanted: frozenset[PodRoute]) -> None:
    if before != wanted:
        overlay_apply.change_routes(
            config.underlay,
            [(route.destination, route.gateway) for route in before],
            [(route.destination, route.gateway) for route in wanted],
        )


def _ensure_vtep(ip: IPRoute, config: NetworkConfig, wanted: PodNetwork) -> str:
    assert wanted.vtep is not None
    local = wanted.vtep.local
    links.ensure_link(
        ip,
        VXLAN,
        "vxlan",
        vxlan_id=VXLAN_ID,
        vxlan_port=VXLAN_PORT,
        # The API names every endpoint, so the device need not flood or learn.
        vxlan_learning=0,
        vxlan_link=links.index_of(ip, config.underlay),
        mtu=config.mtu,
        **{"vxlan_local" if ipaddress.ip_address(local).version == 4 else "vxlan_local6": local},
    )
    links.ensure_up(ip, VXLAN)
    for address in wanted.vtep.addresses:
        links.ensure_address(ip, VXLAN, address)
    return links.mac_of(ip, VXLAN)


def _ensure_segment(ip: IPRoute, config: NetworkConfig, wanted: PodNetwork) -> None:
    links.ensure_link(ip, BRIDGE, "bridge", mtu=config.mtu)
    links.ensure_up(ip, BRIDGE)
    links.ensure_up(ip, config.segment, master=BRIDGE)
    for address in wanted.bridge_addresses:
        links.ensure_address(ip, BRIDGE, address)


def _remove_strays(ip: IPRoute, config: NetworkConfig, wanted: PodNetwork) -> None:
    """Remove routes into the pods' ranges through former peers."""
    expected = {route.destination for route in wanted.routes}
    ranges = [ipaddress.ip_network(cidr) for cidr in config.cluster_cidrs]
    underlay = links.index_of(ip, config.underlay)
    for route in ip.get_routes(table=254):
        destination = route.get("dst")
        if not destination or route.get("oif") != underlay or not route.get("gateway"):
            continue
        network = ipaddress.ip_network(f"{destination}/{route['dst_len']}")
        inside = any(network.version == r.version and network.subnet_of(r) for r in ranges)  # type: ignore[arg-type]
        if inside and str(network) not in expected:
            links.remove_route(ip, str(network), config.underlay)


def _masquerade(config: NetworkConfig, wanted: PodNetwork) -> None:
    """Masquerade what this node's pods send out of the cluster: outside, their addresses are unknown."""
    rules = []
    for cidr in wanted.pod_cidrs:
        version = ipaddress.ip_network(cidr).version
        family = "ip" if version == 4 else "ip6"
        cluster = next(c for c in config.cluster_cidrs if ipaddress.ip_network(c).version == version)
        rules.append(
            f"    {family} saddr {cidr} {family} daddr != {cluster} oifname {config.underlay} masquerade fully-random"
        )
    lines = [
        f"table inet {_TABLE}",
        f"delete table inet {_TABLE}",
        f"table inet {_TABLE} {{",
        "  chain postrouting {",
        # After kube-proxy's chain (srcnat), which masquerades for other reasons.
        "    type nat hook postrouting priority srcnat + 10; policy accept;",
        *rules,
        "  }",
        "}",
        "",
    ]
    text = "\n".join(lines)
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise NetlabError(f"table inet {_TABLE}: nft refused it: {reason[0]}")
