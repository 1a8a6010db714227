"""The iptables data plane: a chain for every Service port, for every list of endpoints and for every endpoint.

It has upstream's shape, for comparison and for kernels without nftables: every new connection and every sync costs time
in proportion to the number of Services. That is the design's doing, not this file's.

    KUBE-SERVICES    every frontend with an address: ClusterIPs to KUBE-SVC or KUBE-SVL, the others to KUBE-EXT
    KUBE-NODEPORTS   every NodePort, to KUBE-EXT
    KUBE-EXT-hash    masquerades, or for the policy Local sorts pods and the node from the outside world
    KUBE-SVC-hash    chooses among all endpoints (KUBE-SVL-hash: among this node's)
    KUBE-SEP-hash    translates to one endpoint, and remembers the client for session affinity
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from netlab.net.addresses import Family, host_port, of_family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target

Chains: TypeAlias = dict[str, list[str]]
"""The rules of each chain of a table, as arguments of `iptables -A CHAIN`."""
Tables: TypeAlias = dict[str, Chains]

HOOKS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "nat": (
        ("PREROUTING", "-j KUBE-SERVICES"),
        ("OUTPUT", "-j KUBE-SERVICES"),
        ("POSTROUTING", "-j KUBE-POSTROUTING"),
    ),
    "filter": tuple((hook, "-m conntrack --ctstate NEW -j KUBE-REFUSE") for hook in ("INPUT", "FORWARD", "OUTPUT")),
}
"""The rules in the built-in chains: everything else is in chains of our own."""

COMMIT = "COMMIT"
"""Ends a table's lines: one batch for the kernel."""

PART = 200
"""Lines that a socket's ordinary buffer (212,992 bytes) has room for, at less than a kilobyte each.

iptables-nft sends its input as one message. Only the machine's root may use a larger buffer (SO_SNDBUFFORCE).
"""

_LOOPBACK: Mapping[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1/128"}
_BITS: Mapping[Family, int] = {"IPv4": 32, "IPv6": 128}


def tables(plan: Plan, family: Family, config: ProxyConfig) -> Tables:
    """All chains of a plan. Pure."""
    mark = 1 << config.masquerade_bit
    nat: Chains = {
        "KUBE-SERVICES": [],
        # Loopback has no NodePorts: the source of what the node sends itself there cannot be rewritten (KEP-3866).
        "KUBE-NODEPORTS": [f"-d {_LOOPBACK[family]} -j RETURN"],
        "KUBE-MARK-MASQ": [f"-j MARK --or-mark {mark:#x}"],
        "KUBE-POSTROUTING": [
            f"-m mark ! --mark {mark:#x}/{mark:#x} -j RETURN",
            f"-j MARK --xor-mark {mark:#x}",
            "-j MASQUERADE --random-fully",
        ],
    }
    # What the nat table does not translate meets these after routing; the nat table itself may not drop.
    refuse: Chains = {"KUBE-REFUSE": [], "KUBE-REFUSE-NODEPORTS": [f"-d {_LOOPBACK[family]} -j RETURN"]}
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
    name = _name("SEP", target.service, frontend.protocol, endpoint.address, str(endpoint.port))
    remember = f"-m recent --name {name} --set " if target.affinity_seconds else ""
    nat[name] = [
        # A pod that reaches itself must see a foreign source, or it would answer directly, bypassing the translation.
        f"-s {endpoint.address} -j KUBE-MARK-MASQ",
        f"-p {frontend.protocol} {remember}-j DNAT --to-destination {host_port(endpoint.address, endpoint.port)}",
    ]
    return name


def render(old: Tables, new: Tables) -> str:
    """The input of `iptables-restore --noflush` that leads from `old` to `new`; empty if they are the same.

    It contains only chains whose rules changed. Chains that are gone are deleted in the same commit.
    """
    lines = []
    for table, chains in new.items():
        before = old.get(table, {})
        changed = [name for name, rules in chains.items() if before.get(name) != rules]
        gone = before.keys() - chains.keys()
        if not changed and not gone:
            continue
        # Declaring a chain empties it, or makes it.
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in (*changed, *sorted(gone)))]
        lines += [f"-A {name} {rule}" for name in changed for rule in chains[name]]
        lines += [f"-X {name}" for name in sorted(gone)]
        lines.append(COMMIT)
    return "\n".join(lines) + "\n" if lines else ""


def render_parts(old: Tables, new: Tables) -> list[str]:
    """The output of `render` in parts of at most PART lines, for a kernel that refuses the whole.

    No rule leads to a chain that is not complete yet, and deletions come last; only a chain that is itself larger than
    a part briefly lacks its last rules.
    """
    parts = []
    for table, chains in new.items():
        before = old.get(table, {})
        changed = [name for name in _leaves_first(chains) if before.get(name) != chains[name]]
        gone = sorted(before.keys() - chains.keys())
        lines: list[list[str]] = [
            [f":{name} - [0:0]", *(f"-A {name} {rule}" for rule in chains[name])] for name in changed
        ]
        # All are emptied before any is deleted: they may lead to each other.
        lines += [[f":{name} - [0:0]"] for name in gone]
        lines += [[f"-X {name}"] for name in gone]
        part: list[str] = []
        for chain in lines:
            if part and len(part) + len(chain) > PART:
                parts.append((table, part))
                part = []
            part = [*part, *chain]
        parts.append((table, part))
    return [
        "\n".join([f"*{table}", *part[start : start + PART], COMMIT, ""])
        for table, part in parts
        for start in range(0, len(part), PART)
    ]


def _leaves_first(chains: Chains) -> list[str]:
    """The chains, each one after those that its rules lead to."""
    placed: dict[str, None] = {}

    def place(name: str) -> None:
        if name in placed or name not in chains:
            return
        for rule in chains[name]:
            place(rule.rpartition("-j ")[2].partition(" ")[0])
        placed[name] = None

    for name in chains:
        place(name)
    return list(placed)


def parse(saved: str) -> Tables:
    """The chains that iptables-save lists, built-in ones too; rules are in the kernel's spelling, not in ours."""
    found: Tables = {}
    chains: Chains = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = found.setdefault(line[1:], {})
        elif line.startswith(":"):
            chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            chains[name].append(rule)
    return found


def _name(kind: str, *parts: str) -> str:
    # A chain's name has at most 28 characters.
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"KUBE-{kind}-{base64.b32encode(digest).decode()[:16]}"
