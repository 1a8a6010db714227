"""The other nodes of a VXLAN overlay: the peers file, and the entries of this node's VXLAN device.

As in flannel's VXLAN backend every pair of nodes has a unicast tunnel: no flooding and no learning. A peer's pods are
reached through its gateway, the first address of its subnet (which no pod ever gets); the gateway's MAC address is
that of the peer's VXLAN device. Everything here is pure; netlab.net.overlay applies it to the kernel.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import itertools
from _blake2 import blake2s
from collections.abc import Iterable
from typing import Any

from netlab.cni.spec import codec
from netlab.net.overlay import Overlay

_MAC_LENGTH = 6


@dataclasses.dataclass(frozen=True)
class Peer:
    """A node of the overlay: its addresses on the underlay, its VXLAN device's MAC address, and its pods' subnets.

    An address it lacks is empty, and so is a MAC address derived from its endpoint (`vtep_mac`).
    """

    node: str
    public_ip: str
    public_ipv6: str
    mac: str
    subnets: tuple[str, ...]

    def endpoint(self, version: int) -> str:
        """Its address on an underlay of that IP version, 4 or 6."""
        return self.public_ip if version == 4 else self.public_ipv6


def parse_peers(text: bytes) -> list[Peer]:
    """Read a peers file. Raises `ValueError` naming the field, such as `[1].subnets[0]`."""
    document = codec.loads(text)
    if not isinstance(document, list):
        raise ValueError("must be a list of peers")
    peers = [_parse_peer(item, f"[{number}]") for number, item in enumerate(document)]
    for name in ("node", "public_ip", "public_ipv6", "mac"):
        _distinct((getattr(peer, name) for peer in peers), _KEYS[name])
    _disjoint([subnet for peer in peers for subnet in peer.subnets])
    return peers


def format_peers(peers: Iterable[Peer]) -> bytes:
    """The text of a peers file."""
    entries = [
        {key: getattr(peer, name) for name, key in _KEYS.items() if getattr(peer, name)}
        | {"subnets": list(peer.subnets)}
        for peer in peers
    ]
    return codec.dumps(entries).encode()


_KEYS = {"node": "node", "public_ip": "publicIP", "public_ipv6": "publicIPv6", "mac": "vtepMAC"}


def plan(peers: Iterable[Peer], local: str, vni: int) -> Overlay:
    """The entries for the device of the node with the endpoint `local`. A peer with that endpoint is the node itself.

    Raises `ValueError` if a peer has no address of the underlay's family.
    """
    version = ipaddress.ip_address(local).version
    forwarding, neighbours, routes = set(), set(), set()
    for peer in peers:
        endpoint = peer.endpoint(version)
        if endpoint == local:
            continue
        if not endpoint:
            key = "publicIP" if version == 4 else "publicIPv6"
            raise ValueError(f"node {peer.node}: {key} is missing; the others reach this node at {local}")
        mac = peer.mac or vtep_mac(endpoint, vni)
        forwarding.add((mac, endpoint))
        for subnet in peer.subnets:
            neighbours.add((gateway(subnet), mac))
            routes.add((subnet, gateway(subnet)))
    return Overlay(frozenset(forwarding), frozenset(neighbours), frozenset(routes))


def own_mac(peers: Iterable[Peer], local: str, vni: int) -> str:
    """The MAC address by which the others know the device of the node with the endpoint `local`."""
    version = ipaddress.ip_address(local).version
    listed = (peer.mac for peer in peers if peer.endpoint(version) == local)
    return next(listed, "") or vtep_mac(local, vni)


def own_addresses(peers: Iterable[Peer], local: str) -> list[str]:
    """The addresses of the device of the node with the endpoint `local`, one for each of its subnets."""
    version = ipaddress.ip_address(local).version
    own = (subnet for peer in peers if peer.endpoint(version) == local for subnet in peer.subnets)
    return [f"{gateway(subnet)}/{128 if ':' in subnet else 32}" for subnet in own]


def vtep_mac(endpoint: str, vni: int) -> str:
    """The MAC address of a VXLAN device, if none is given: always the same, so its peers know it."""
    digest = blake2s(f"{vni}/{endpoint}".encode(), digest_size=_MAC_LENGTH - 1).digest()
    return (b"\x0e" + digest).hex(":")


@functools.lru_cache(1024)  # an agent asks for those of all nodes each time one of them changes
def gateway(subnet: str) -> str:
    """The address of a node's VXLAN device for a subnet of its pods: the network's own, as in flannel."""
    return str(ipaddress.ip_network(subnet).network_address)


def _parse_peer(value: Any, path: str) -> Peer:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {value!r} must be an object")
    public_ip, public_ipv6 = (_address(value, key, version, path) for key, version in _ENDPOINTS)
    if not public_ip and not public_ipv6:
        raise ValueError(f"{path}: publicIP or publicIPv6 is needed")
    subnets = value.get("subnets")
    if not isinstance(subnets, list):
        raise ValueError(f"{path}.subnets: {subnets!r} must be a list of subnets like 10.244.2.0/24")
    return Peer(
        node=_text(value, "node", path) or public_ip or public_ipv6,
        public_ip=public_ip,
        public_ipv6=public_ipv6,
        mac=_mac(value, path),
        subnets=tuple(_subnet(subnet, f"{path}.subnets[{number}]") for number, subnet in enumerate(subnets)),
    )


_ENDPOINTS = (("publicIP", 4), ("publicIPv6", 6))


def _text(value: dict[str, Any], key: str, path: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise ValueError(f"{path}.{key}: {text!r} must be a string")
    return text


def _address(value: dict[str, Any], key: str, version: int, path: str) -> str:
    text = _text(value, key, path)
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or getattr(address, "scope_id", None):
        raise ValueError(f"{path}.{key}: {text!r} must be an IPv{version} address")
    return str(address)


def _mac(value: dict[str, Any], path: str) -> str:
    text = _text(value, "vtepMAC", path)
    if not text:
        return ""
    parts = text.split(":")
    try:
        mac = bytes(int(part, 16) if len(part) == 2 and part.isalnum() else -1 for part in parts)
    except ValueError:
        mac = b""
    if len(mac) != _MAC_LENGTH or mac[0] & 1 or not any(mac):
        raise ValueError(f"{path}.vtepMAC: {text!r} must be the MAC address of one device, like 0e:1b:2c:3d:4e:5f")
    return mac.hex(":")


def _subnet(value: Any, path: str) -> str:
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f"{path}: {value!r} must be a subnet like 10.244.2.0/24, with no host bits set") from None


def _distinct(values: Iterable[str], key: str) -> None:
    seen = set()
    for value in filter(None, values):
        if value in seen:
            raise ValueError(f"{key}: two peers have {value}")
        seen.add(value)


def _disjoint(subnets: list[str]) -> None:
    networks = sorted(map(ipaddress.ip_network, subnets), key=lambda net: (net.version, net))
    # In this order a network directly precedes those within it.
    for one, other in itertools.pairwise(networks):
        if one.version == other.version and other.subnet_of(one):  # type: ignore[arg-type]
            raise ValueError(f"subnets: {other} is part of {one}" if one != other else f"subnets: {one} is a duplicate")
