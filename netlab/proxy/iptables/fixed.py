"""What the tables have whatever the Services are: the hooks, and the chains with the rules that they begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from netlab.net.addresses import Family
from netlab.proxy.config import ProxyConfig

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

_LOOPBACK: Mapping[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1/128"}


def fixed_chains(family: Family, config: ProxyConfig) -> tuple[Chains, Chains]:
    """The chains of the tables nat and filter."""
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
    return nat, refuse
