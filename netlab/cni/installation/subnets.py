"""The subnets of a network to be installed: usable, no other network's, and not taken from containers that use them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from netlab.cni.plugins.ipam.store import DATA_DIR, holders
from netlab.cni.runtime.configurations import read_networks
from netlab.errors import ConflictError, NetlabError, UsageError

Subnet = IPv4Network | IPv6Network
Plugins = Iterable[Mapping[str, Any]]


def parse_subnets(texts: Sequence[str]) -> list[Subnet]:
    """The subnets as they were asked for. Raises `UsageError` for one that cannot serve, or that overlaps another."""
    found: list[Subnet] = []
    for text in texts:
        subnet = _parse(text)
        for other in found:
            if _overlap(subnet, other):
                raise UsageError(f"subnet {text}: overlaps {other}; give subnets that are apart")
        found.append(subnet)
    return found


def _parse(text: str) -> Subnet:
    if "/" not in text:
        raise UsageError(f"subnet {text}: it has no prefix length; give it like 10.22.0.0/16")
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"subnet {text}: {error}; give it like 10.22.0.0/16") from error
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        smallest = subnet.max_prefixlen - 2
        raise UsageError(f"subnet {text}: too small for a gateway and a pod; /{smallest} is the smallest")
    if subnet.is_loopback or subnet.is_multicast or subnet.is_unspecified or subnet.is_link_local:
        raise UsageError(f"subnet {text}: pods cannot have such addresses; give it like 10.22.0.0/16")
    return subnet


def refuse_overlap(configuration: Path, subnets: Sequence[Subnet]) -> None:
    """Refuse a subnet that another network has, of a file beside this one. Raises `ConflictError`."""
    networks = read_networks(configuration.parent)[0] if configuration.parent.is_dir() else []
    for network in networks:
        if network.source == str(configuration):
            continue
        for theirs in subnets_of(network.plugins):
            for ours in subnets:
                if _overlap(ours, theirs):
                    raise ConflictError(
                        f"subnet {ours}: overlaps {theirs} of network {network.name!r} in {network.source};"
                        " choose another subnet, or --force"
                    )


def refuse_in_use(configuration: Path, subnets: Sequence[Subnet]) -> None:
    """Refuse to take a subnet from a network whose containers have addresses of it. Raises `ConflictError`."""
    networks = read_networks(configuration.parent)[0] if configuration.is_file() else []
    for network in networks:
        if network.source != str(configuration):
            continue
        for held in _held(network.name, network.plugins):
            if not any(held in subnet for subnet in subnets):
                raise ConflictError(
                    f"network {network.name!r} in {configuration}: it is in use, and {held} is in none of"
                    f" {', '.join(map(str, subnets))}; delete its containers first (`netlab cni ipam list` shows them),"
                    " or --force"
                )


def _held(name: str, plugins: Plugins) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for plugin in plugins:
        ipam = plugin.get("ipam")
        if not isinstance(ipam, dict) or ipam.get("type") != "netlab-ipam":
            continue
        folder = str(ipam.get("dataDir") or DATA_DIR)
        try:
            for reservation in holders(folder, name):
                yield ipaddress.ip_address(reservation.address)
        except OSError as error:
            raise NetlabError(
                f"{folder}/{name}: {error.strerror}: whether the network is in use cannot be seen"
            ) from error


def subnets_of(plugins: Plugins) -> Iterator[Subnet]:
    """What IPAM plugins give addresses from: host-local's keys, and ours."""
    for plugin in plugins:
        ipam = plugin.get("ipam")
        if not isinstance(ipam, dict):
            continue
        sets = ipam.get("ranges")
        items = (
            [item for ranges in sets if isinstance(ranges, list) for item in ranges] if isinstance(sets, list) else []
        )
        for item in [ipam, *items]:
            try:
                yield ipaddress.ip_network(item["subnet"], strict=False)
            except (KeyError, TypeError, ValueError):
                continue  # it has none, or one that its own plugin refuses


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)
