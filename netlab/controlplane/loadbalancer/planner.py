"""Which addresses a Service of type LoadBalancer gets. Pure.

Annotations and the rules for a shared address are those of MetalLB's documentation (usage, "IP address sharing"), so
that its users' manifests work.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from netlab.api import load_balancers
from netlab.api.core_types import LoadBalancerIngress, LoadBalancerStatus, PortStatus, Service
from netlab.errors import ConflictError, ExhaustedError, NetlabError, UsageError
from netlab.net.addresses import Family, family_of, of_family

ADDRESSES = "metallb.io/loadBalancerIPs"
"""An annotation: the addresses that the Service asks for, one of each family, with commas between them."""
SHARED = "metallb.io/allow-shared-ip"
"""An annotation: Services with the same value may have one address."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A Service as far as it decides about addresses."""

    key: str
    """`namespace/name`."""
    families: tuple[Family, ...]
    needs_all: bool
    """Whether it wants an address of every family, or else none (ipFamilyPolicy)."""
    asked: str
    """The addresses that it asks for, as they are written; empty: any."""
    sharing: str
    """Its key for sharing; empty: it shares with nobody."""
    ports: frozenset[tuple[str, int]]
    backend: str
    """Services that share an address must agree in this: nodes that draw its traffic do so for all of them."""
    age: str
    """When it was created."""


def claim_of(service: Service) -> Claim:
    """What a Service asks of the load balancer."""
    spec, annotations = service.spec, service.metadata.annotations
    local = spec.externalTrafficPolicy == "Local"
    selector = ",".join(f"{name}={value}" for name, value in sorted(spec.selector.items()))
    both: tuple[Family, ...] = ("IPv6", "IPv4") if spec.ipFamilies[:1] == ["IPv6"] else ("IPv4", "IPv6")
    return Claim(
        key=service.key,
        families=tuple(family for family in both if family in spec.ipFamilies),
        needs_all=spec.ipFamilyPolicy != "PreferDualStack",
        asked=annotations.get(ADDRESSES) or spec.loadBalancerIP,
        sharing=annotations.get(SHARED, ""),
        ports=frozenset((port.protocol, port.port) for port in spec.ports),
        backend=f"Local: {service.metadata.namespace}/{selector}" if local else "Cluster",
        age=service.metadata.creationTimestamp or "",
    )


def allocate(
    claim: Claim, present: Sequence[str], holders: Mapping[str, Sequence[Claim]], pools: Sequence[str]
) -> list[str]:
    """The addresses for a Service, one of each of its families, in normal form.

    `present` are those that it has: it keeps what it may. `holders` are the other Services by the addresses they have.
    Raises UsageError for addresses that it cannot ask for, ConflictError for one that another Service has, and
    ExhaustedError if there is none left.
    """
    if claim.asked:
        wanted = _asked(claim, pools)
        for each in wanted:
            if refusal := _refusal(claim, each, each in present, holders):
                raise ConflictError(refusal)
        return wanted
    found = []
    for family in claim.families:
        inside = of_family(pools, family)
        own = [each for each in of_family(present, family) if load_balancers.is_in(each, inside)]
        kept = next((each for each in own if not _refusal(claim, each, True, holders)), None)
        address = kept or _choose(claim, holders, inside)
        if address is not None:
            found.append(address)
        elif claim.needs_all or (family == claim.families[-1] and not found):
            raise _none_left(family, inside)
    return found


def status(addresses: Iterable[str], service: Service) -> LoadBalancerStatus:
    """The status of a Service with these addresses. Their packets keep them as destination (ipMode VIP, KEP-1860)."""
    ports = [PortStatus(port=port.port, protocol=port.protocol) for port in service.spec.ports]
    return LoadBalancerStatus([LoadBalancerIngress(ip=each, ipMode="VIP", ports=ports) for each in addresses])


def _asked(claim: Claim, pools: Sequence[str]) -> list[str]:
    found: dict[Family, str] = {}
    for text in claim.asked.split(","):
        try:
            address = str(ipaddress.ip_address(text.strip()))
        except ValueError:
            raise UsageError(f"{text.strip()!r} is no address, such as 192.0.2.130") from None
        family = family_of(address)
        if family not in claim.families:
            raise UsageError(f"{address} is {family}, and the Service is {' and '.join(claim.families)}")
        if family in found:
            raise UsageError(f"{found[family]} and {address} are both {family}: ask for one of each family")
        if not load_balancers.is_in(address, pools):
            raise UsageError(f"{address} is in no pool of this lab: {', '.join(pools) or 'there is none'}")
        found[family] = address
    lacking = [family for family in claim.families if family not in found]
    if lacking and claim.needs_all:
        raise UsageError(f"it asks for no {lacking[0]} address, and the Service needs one of each of its families")
    return list(found.values())


def _refusal(claim: Claim, address: str, has_it: bool, holders: Mapping[str, Sequence[Claim]]) -> str:
    """Why the Service cannot have an address; empty if it can. Of those that have it unshared, the oldest keeps it."""
    for holder in holders.get(address, ()):
        if (why := _apart(claim, holder)) and not (has_it and _rank(claim) < _rank(holder)):
            return f"{address} is Service {holder.key}'s: {why}"
    return ""


def _rank(claim: Claim) -> tuple[str, str]:
    return claim.age, claim.key


def _apart(claim: Claim, other: Claim) -> str:
    """Why two Services cannot have one address; empty if they can."""
    if not claim.sharing or claim.sharing != other.sharing:
        return f"to share it, both need the same value of the annotation {SHARED}"
    if both := sorted(claim.ports & other.ports):
        protocol, port = both[0]
        return f"both have the port {port}/{protocol}"
    if claim.backend != other.backend:
        return "to share it, both need externalTrafficPolicy Cluster, or Local and the same selector"
    return ""


def _choose(claim: Claim, holders: Mapping[str, Sequence[Claim]], pools: Sequence[str]) -> str | None:
    """An address that those of the same key have, or else the first that nobody has."""
    if claim.sharing:
        for address, sharers in holders.items():
            if load_balancers.is_in(address, pools) and not any(_apart(claim, each) for each in sharers):
                return address
    for pool in pools:
        for free in map(str, ipaddress.ip_network(pool)):
            if free not in holders:
                return free
    return None


def _none_left(family: Family, pools: Sequence[str]) -> NetlabError:
    if not pools:
        return UsageError(f"the lab has no {family} pool for load balancers (netlab up --load-balancer-pool)")
    size = sum(ipaddress.ip_network(pool).num_addresses for pool in pools)
    return ExhaustedError(
        f"no {family} address is left: all {size} of {', '.join(pools)} are taken; delete a Service, or start the lab "
        "with a larger pool"
    )
