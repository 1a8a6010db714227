"""The chains and rules of the table, which are the same for any number of containers.

    addresses4             address . protocol . port : address . port      mappings with a hostIP; they come first
    ports4                 protocol . port : address . port                mappings of all addresses of the node
    clients-of-addresses4  client . address . protocol . port : jump mark-13
    clients-of-ports4      client . protocol . port : jump mark-13         whose packets are to be masqueraded

A second set of them, with 6, is for IPv6. `mark-N` and `masquerade-N` are there for each markMasqBit in use.

The destination is translated at -110, before the -100 (dstnat) at which kube-proxy's and other engines' chains are: a
hostPort was given to one container of this very node, and wins over a Service's port of the same number, whichever
table was made first. The source is translated at 100 (srcnat), as by ipMasq's and kube-proxy's: all of them ask for the
same masquerading, so that their order does not matter. The marks are of the packets; kube-proxy's are other bits.
"""

from __future__ import annotations

from netlab.cni.plugins.portmap.plan import TABLE, mark_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_GUARD = """
        # route_localnet, without which the node could not reach a container from 127.0.0.1, would also let the
        # neighbours reach what listens there (CVE-2020-8558).
        ip daddr 127.0.0.0/8 iifname != "lo" drop"""
_PORTS = "meta l4proto { tcp, udp, sctp }"
_MASQUERADE = "masquerade-"
_FAMILIES = ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))
_MAPS = "".join(
    f"""
    map addresses{family} {{
        type {kind} . inet_proto . inet_service : {kind} . inet_service
    }}
    map ports{family} {{
        type inet_proto . inet_service : {kind} . inet_service
    }}
    map clients-of-addresses{family} {{
        type {kind} . {kind} . inet_proto . inet_service : verdict
        flags interval
    }}
    map clients-of-ports{family} {{
        type {kind} . inet_proto . inet_service : verdict
        flags interval
    }}"""
    for family, _, kind in _FAMILIES
)
_BY_ADDRESS = "".join(
    f"""
        {_PORTS} {ip} saddr . {ip} daddr . meta l4proto . th dport vmap @clients-of-addresses{family}
        {_PORTS} dnat {ip} to {ip} daddr . meta l4proto . th dport map @addresses{family}"""
    for family, ip, _ in _FAMILIES
)
_BY_PORT = "".join(
    f"""
        {_PORTS} {ip} saddr . meta l4proto . th dport vmap @clients-of-ports{family}
        meta nfproto ipv{family} {_PORTS} dnat {ip} to meta l4proto . th dport map @ports{family}"""
    for family, ip, _ in _FAMILIES
)
_CHAINS = {
    "host-ports": (
        "",
        f"{_BY_ADDRESS}\n        fib daddr type != local return\n        ip6 daddr ::1 return{_BY_PORT}",
    ),
    "guard": ("type filter hook prerouting priority -300; policy accept;", _GUARD),
    "prerouting": ("type nat hook prerouting priority -110; policy accept;", "\n        jump host-ports"),
    "output": ("type nat hook output priority -110; policy accept;", "\n        jump host-ports"),
}
"""Of each chain its hook and its rules; a chain comes before those that lead to it."""


def text(bits: Iterable[int]) -> str:
    """The table for nft, with the chains of those marks. What is there stays there, and its rules are written anew."""
    chains = _CHAINS.copy()
    for bit in sorted(bits):
        mark = f"{1 << bit:#x}"
        chains[mark_chain(bit)] = ("", f"\n        meta mark set meta mark | {mark}")
        chains[f"{_MASQUERADE}{bit}"] = (
            "type nat hook postrouting priority 100; policy accept;",
            f"\n        meta mark & {mark} == {mark} masquerade",
        )
    declared = "".join(f"\n    chain {name} {{\n        {hook}\n    }}" for name, (hook, _) in chains.items())
    flushed = "".join(f"flush chain inet {TABLE} {name}\n" for name in chains)
    filled = "".join(f"\n    chain {name} {{{rules}\n    }}" for name, (_, rules) in chains.items())
    return f"table inet {TABLE} {{{_MAPS}{declared}\n}}\n{flushed}table inet {TABLE} {{{filled}\n}}\n"


def bits_of(chains: Iterable[str]) -> set[int]:
    """Of which marks a table has chains."""
    numbers = (chain.removeprefix(_MASQUERADE) for chain in chains if chain.startswith(_MASQUERADE))
    return {int(number) for number in numbers if number.isdecimal() and int(number) < 32}
