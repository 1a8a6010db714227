"""From a plan to the chains that hold it. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from netlab.net.addresses import Family, host_port, of_family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.iptables.fixed import Chains, Tables, fixed_chains
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target

_BITS: Mapping[Family, int] = {"IPv4": 32, "IPv6": 128}


def tables(plan: Plan, family: Family, config: ProxyConfig) -> Tables:
    """All chains of a plan. Pure."""
    nat, refuse = fixed_chains(family, config)
    pods = _pods(config, family)
    cluster_ips: set[str] = set()
    for frontend, target in plan.items():
        match = f"-p {frontend.protocol} -m {frontend.protocol} --dport {frontend.port}"
        services, refused = "KUBE-NODEPORTS", "KUBE-REFUSE-NODEPORTS"
        if frontend.address is not None:
            match = f"-d {frontend.address}/{_BITS[family]} {match}"
            services, refused = "KUBE-SERVICES", "KUBE-REFUSE"
        if target.scope is Scope.INTERNAL:
            cluster_ips.add(str(frontend.address))
            if target.endpoints:
                if config.masquerade_all:
                    nat[services].append(f"{match} -j KUBE-MARK-MASQ")
                elif pods:
                    nat[services].append(f"{match} -j {_off_cluster(nat, pods)}")
                nat[services].append(f"{match} -j {_list(nat, frontend, target, target.policy)}")
        elif target.cluster or target.local:
            chain = _external(nat, frontend, target, pods)
            nat[services] += [f"{match} {source}-j {chain}" for source in _sources(target)]
        if not target.endpoints:
            refuse[refused] += [f"{match} {source}-j {target.verdict.name}" for source in _sources(target)]
        if target.sources:
            refuse[refused].append(f"{match} -j DROP")
    # NodePorts last: an external IP may be one of the node's own addresses.
    own = [f"-d {cidr} " for cidr in of_family(config.node_port_addresses, family)] or [""]
    nat["KUBE-SERVICES"] += [f"{cidr}-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS" for cidr in own]
    refuse["KUBE-REFUSE"] += [f"{cidr}-m addrtype --dst-type LOCAL -j KUBE-REFUSE-NODEPORTS" for cidr in own]
    refuse["KUBE-REFUSE"] += [f"-d {address}/{_BITS[family]} -j REJECT" for address in sorted(cluster_ips)]
    refuse["KUBE-REFUSE"] += [f"-d {cidr} -j DROP" for cidr in of_family(config.service_cidrs, family)]
    return {"nat": nat, "filter": refuse}


def _pods(config: ProxyConfig, family: Family) -> list[str]:
    """The matches of a packet from a pod, any one of which is enough; empty: pods cannot be recognised."""
    detect = config.detect_local
    if detect.mode == "BridgeInterface":
        return [f"-i {detect.interface}"]
    if detect.mode == "InterfaceNamePrefix":
        return [f"-i {detect.interface}+"]
    return [f"-s {cidr}" for cidr in of_family(detect.cidrs, family)]


def _sources(target: Target) -> list[str]:
    """The matches for clients that may connect."""
    return [f"-s {source} " for source in target.sources] or [""]


def _off_cluster(nat: Chains, pods: Sequence[str]) -> str:
    # A chain of its own, because "none of these" takes more than one match.
    nat["KUBE-OFF-CLUSTER"] = [*(f"{match} -j RETURN" for match in pods), "-j KUBE-MARK-MASQ"]
    return "KUBE-OFF-CLUSTER"


def _external(nat: Chains, frontend: Frontend, target: Target, pods: Sequence[str]) -> str:
    name = _name("EXT", target.service, frontend.protocol)
    if target.policy == "Cluster":
        nat[name] = ["-j KUBE-MARK-MASQ", f"-j {_list(nat, frontend, target, 'Cluster')}"]
        return name
    rules = []
    if target.cluster:
        everywhere = _list(nat, frontend, target, "Cluster")
        rules += [f"{match} -j {everywhere}" for match in pods]
        rules += [f"-m addrtype --src-type LOCAL -j {verb}" for verb in ("KUBE-MARK-MASQ", everywhere)]
    if target.local:
        rules.append(f"-j {_list(nat, frontend, target, 'Local')}")
    nat[name] = rules
    return name


def _list(nat: Chains, frontend: Frontend, target: Target, policy: str) -> str:
    """The chain that chooses from a list, made if needed: a Service port's frontends share it."""
    name = _name("SVC" if policy == "Cluster" else "SVL", target.service, frontend.protocol)
    if name not in nat:
        endpoints = target.cluster if policy == "Cluster" else target.local
        nat[name] = list(_choices(nat, frontend, target, endpoints))
    return name


def _choices(nat: Chains, frontend: Frontend, target: Target, endpoints: Sequence[Endpoint]) -> Iterator[str]:
    names = [_endpoint(nat, frontend, target, endpoint) for endpoint in endpoints]
    if target.affinity_seconds:
        for name in names:
            yield f"-m recent --name {name} --rcheck --seconds {target.affinity_seconds} --reap -j {name}"
    for index, name in enumerate(names, start=1):
        left = len(names) - index + 1
        chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        yield f"{chance}-j {name}"


def _endpoint(nat: Chains, frontend: Frontend, target: Target, endpoint: Endpoint) -> str:
    name = endpoint_chain(target.service, frontend.protocol, endpoint.address, endpoint.port)
    remember = f"-m recent --name {name} --set " if target.affinity_seconds else ""
    nat[name] = [
        # A pod that reaches itself must see a foreign source, or it would answer directly, bypassing the translation.
        f"-s {endpoint.address} -j KUBE-MARK-MASQ",
        f"-p {frontend.protocol} {remember}-j DNAT --to-destination {host_port(endpoint.address, endpoint.port)}",
    ]
    return name


def endpoint_chain(service: str, protocol: str, address: str, port: int) -> str:
    """The name of an endpoint's chain, and of the list of clients that it remembers (xt_recent)."""
    return _name("SEP", service, protocol, address, str(port))


def _name(kind: str, *parts: str) -> str:
    # A chain's name has at most 28 characters.
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"KUBE-{kind}-{base64.b32encode(digest).decode()[:16]}"
