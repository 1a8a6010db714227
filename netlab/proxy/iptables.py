"""The iptables data plane: a chain for every Service port, for every list of endpoints and for every endpoint.

It has upstream's shape, for comparison and for kernels without nftables: what costs the number of Services in every
new connection and in every sync is the design, not this file.

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

from netlab.proxy.plan import Endpoint, Family, Frontend, Plan, Scope, Target, Verdict

Chains: TypeAlias = dict[str, list[str]]
"""The rules of each chain of a table, as arguments of `iptables -A CHAIN`."""
Tables: TypeAlias = dict[str, Chains]

MASQUERADE_MARK = "0x4000/0x4000"
HOOKS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "nat": (
        ("PREROUTING", "-j KUBE-SERVICES"),
        ("OUTPUT", "-j KUBE-SERVICES"),
        ("POSTROUTING", "-j KUBE-POSTROUTING"),
    ),
    "filter": tuple((hook, "-m conntrack --ctstate NEW -j KUBE-REFUSE") for hook in ("INPUT", "FORWARD", "OUTPUT")),
}
"""The rules in the built-in chains: everything else is in chains of our own."""

_LOOPBACK: Mapping[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1/128"}
_BITS: Mapping[Family, int] = {"IPv4": 32, "IPv6": 128}


def tables(plan: Plan, family: Family, cluster_cidrs: Sequence[str], *, masquerade_all: bool = False) -> Tables:
    """All chains of a plan. Pure."""
    own = f"-m addrtype --dst-type LOCAL ! -d {_LOOPBACK[family]}"
    nat: Chains = {
        "KUBE-SERVICES": [],
        "KUBE-NODEPORTS": [],
        "KUBE-MARK-MASQ": ["-j MARK --or-mark 0x4000"],
        "KUBE-POSTROUTING": [
            f"-m mark ! --mark {MASQUERADE_MARK} -j RETURN",
            "-j MARK --xor-mark 0x4000",
            "-j MASQUERADE --random-fully",
        ],
    }
    refused: list[str] = []
    cluster_ips: set[str] = set()
    for frontend, target in plan.items():
        match = f"-p {frontend.protocol} -m {frontend.protocol} --dport {frontend.port}"
        if frontend.address is not None:
            match = f"-d {frontend.address}/{_BITS[family]} {match}"
        chain, kind = ("KUBE-NODEPORTS", own) if frontend.address is None else ("KUBE-SERVICES", "")
        if target.scope is Scope.INTERNAL:
            cluster_ips.add(str(frontend.address))
        if not target.cluster and not target.local:
            if target.scope is Scope.EXTERNAL:
                refused.append(" ".join(filter(None, (match, kind, "-j REJECT"))))
            continue
        if target.scope is Scope.INTERNAL:
            if not target.endpoints:
                # The nat table may not drop: not translated, it meets this rule behind the routing.
                assert target.verdict is Verdict.DROP
                refused.insert(0, f"{match} -j DROP")
                continue
            if masquerade_all:
                nat[chain].append(f"{match} -j KUBE-MARK-MASQ")
            elif cluster_cidrs:
                nat[chain].append(f"{match} -j {_off_cluster(nat, cluster_cidrs)}")
            nat[chain].append(f"{match} -j {_list(nat, frontend, target, target.policy)}")
            continue
        if not target.endpoints:
            refused.insert(0, " ".join(filter(None, (match, kind, "-j DROP"))))
        nat[chain].append(f"{match} -j {_external(nat, frontend, target, cluster_cidrs)}")
    # NodePorts last: an external IP may be one of the node's own addresses.
    nat["KUBE-SERVICES"].append(f"{own} -j KUBE-NODEPORTS")
    refused += [f"-d {address}/{_BITS[family]} -j REJECT" for address in sorted(cluster_ips)]
    return {"nat": nat, "filter": {"KUBE-REFUSE": refused}}


def _off_cluster(nat: Chains, cluster_cidrs: Sequence[str]) -> str:
    # A chain of its own, because "from none of these" takes more than one match.
    nat["KUBE-OFF-CLUSTER"] = [f"-s {cidr} -j RETURN" for cidr in cluster_cidrs] + ["-j KUBE-MARK-MASQ"]
    return "KUBE-OFF-CLUSTER"


def _external(nat: Chains, frontend: Frontend, target: Target, cluster_cidrs: Sequence[str]) -> str:
    name = _name("EXT", target.service, frontend.protocol)
    if target.policy == "Cluster":
        nat[name] = ["-j KUBE-MARK-MASQ", f"-j {_list(nat, frontend, target, 'Cluster')}"]
        return name
    rules = []
    if target.cluster:
        everywhere = _list(nat, frontend, target, "Cluster")
        rules += [f"-s {cidr} -j {everywhere}" for cidr in cluster_cidrs]
        rules += [f"-m addrtype --src-type LOCAL -j {verb}" for verb in ("KUBE-MARK-MASQ", everywhere)]
    if target.local:
        rules.append(f"-j {_list(nat, frontend, target, 'Local')}")
    nat[name] = rules
    return name


def _list(nat: Chains, frontend: Frontend, target: Target, policy: str) -> str:
    """The chain that chooses among a list, made if it is not there: a Service port's frontends share it."""
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
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    remember = f"-m recent --name {name} --set " if target.affinity_seconds else ""
    nat[name] = [
        # A pod that reaches itself must see a foreign source, or it would answer itself past the translation.
        f"-s {endpoint.address} -j KUBE-MARK-MASQ",
        f"-p {frontend.protocol} {remember}-j DNAT --to-destination {host}:{endpoint.port}",
    ]
    return name


def render(old: Tables, new: Tables) -> str:
    """The input of `iptables-restore --noflush` that leads from `old` to `new`; empty if they are the same.

    Only chains whose rules changed are in it. Chains that are gone are deleted in the same commit.
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
        lines.append("COMMIT")
    return "\n".join(lines) + "\n" if lines else ""


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
    # 28 characters are the most that a chain's name may have.
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"KUBE-{kind}-{base64.b32encode(digest).decode()[:16]}"
