"""Translates what nftables reports about a packet to names that people gave: a Service's port, a CNI network.

`passages` groups the reports of a namespace by packet, one list for each time that a packet went through it;
`decisions` are the rules among them that changed its fate; `read_texts` reads the text of those rules.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from netlab.capture.headers import Flow
from netlab.counted import counted
from netlab.net.addresses import address_text
from netlab.net.netlink import NetlinkError
from netlab.net.nftables.elements import Set
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.nftables.traces import Step
from netlab.policy.nftables.layout import TABLE as POLICY_TABLE
from netlab.proxy.nftables.fixed import TABLE
from netlab.proxy.plan import Frontend, Plan, Scope, Target, Verdict
from netlab.trace.nftrace import TABLE_PREFIX, Signature

Kind = Literal["DNAT", "SNAT", "rejected", "dropped"]

_DROP = 0
_TIMEOUT = 10.0
_COUNTER = re.compile(r"counter packets \d+ bytes \d+ ?")
_LINE = re.compile(r"^\t\t(?P<text>.*) # handle (?P<handle>\d+)$")
_COMMENT = re.compile(r'comment "(?P<quoted>[^"]*)"|--comment (?P<word>[^" ]+)')
_IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}
_IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_TRANSLATIONS: Mapping[str, Kind] = {"dnat": "DNAT", "redirect": "DNAT", "snat": "SNAT", "masquerade": "SNAT"}
_MARKS = ("mark-masquerade", "KUBE-MARK-MASQ")
_CNI_MASQUERADE = "netlab_cni_masquerade"
_CNI_PORTMAP = "netlab_cni_portmap"

Chain = tuple[str, str, str]
"""Family, table and name."""
Refusal = Callable[[str, str, str, str, int], str]
"""Of a machine, a source, a destination, a protocol and a port: why the machine's policies drop it."""
Texts = Mapping[tuple[Chain, int], str]
"""The text of rules, as nft lists them, by chain and handle."""


class Passage(NamedTuple):
    """What happened to one packet on its way through a network namespace: its steps, in order."""

    machine: str
    steps: tuple[Step, ...]

    @property
    def flows(self) -> list[Flow]:
        """The packet's source and destination at the beginning of each base chain."""
        return [flow(step) for step in self.steps if step.network]

    @property
    def chains(self) -> list[Chain]:
        """The chains in which a rule matched."""
        return list(dict.fromkeys(_chain(step) for step in self.steps if step.handle))


class Decision(NamedTuple):
    """A rule that changed a packet's fate: what it did, the packet that it met, and why in words.

    `by` begins with what the rule is for (a Service's port and policy, a network), if that is known here; the rule
    follows. `service` is that Service's port, NAMESPACE/NAME:PORT.
    """

    kind: Kind
    flow: Flow
    by: tuple[str, ...]
    service: str = ""


def flow(step: Step) -> Flow:
    """The packet's source, source port, destination and destination port at a step that has its headers."""
    network, transport = step.network, step.transport
    addresses = (network[12:16], network[16:20]) if network[0] >> 4 == 4 else (network[8:24], network[24:40])
    if protocol(step) in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
        sport = dport = int.from_bytes(transport[4:6], "big")
    else:
        sport, dport = struct.unpack_from("!HH", transport) if len(transport) >= 4 else (0, 0)
    return addresses[0], sport, addresses[1], dport


def protocol(step: Step) -> int:
    """The number of the protocol above IP. IPv6 extension headers are not skipped."""
    return step.network[9] if step.network[0] >> 4 == 4 else step.network[6]


def passages(machine: str, steps: Iterable[Step], signature: Signature, table: str) -> list[Passage]:
    """The steps of a namespace, by packet. `table` is the one whose rules marked them; its own steps are left out.

    On some of the kernel's paths a packet's number changes with its addresses; then its bytes identify it.
    """
    found: list[list[Step]] = []
    of: dict[int, list[Step]] = {}
    for step in steps:
        if step.table == table:
            begins = step.handle and (step.chain.endswith("-raw") or step.packet not in of)
            if begins:
                of[step.packet] = []
                found.append(of[step.packet])
        elif not step.table.startswith(TABLE_PREFIX):
            if step.packet not in of and found and step.transport and _matches(step, signature):
                of[step.packet] = found[-1]
            if step.packet in of:
                of[step.packet].append(step)
    return [Passage(machine, tuple(each)) for each in found if each]


def _matches(step: Step, signature: Signature) -> bool:
    if protocol(step) != signature.protocol:
        return False
    for pattern in signature.patterns:
        # The kernel reports only the first 20 bytes.
        there = step.transport[pattern.offset :][: len(pattern.first)]
        if there and pattern.first[: len(there)] <= there <= pattern.last[: len(there)]:
            return True
    return False


def read_texts(passages: Iterable[Passage]) -> dict[tuple[Chain, int], str]:
    """The text of the rules in the chains that packets met, from nft in the current network namespace.

    A chain that is gone by now, or that nft cannot list, has none.
    """
    texts: dict[tuple[Chain, int], str] = {}
    for chain in dict.fromkeys(chain for passage in passages for chain in passage.chains):
        listed = [
            (int(match["handle"]), _COUNTER.sub("", match["text"]))
            for line in _listing("nft", "--terse", "--handle", "list", "chain", *chain)
            if (match := _LINE.match(line))
        ]
        family, table, name = chain
        if family in _IPTABLES and table in _IPTABLES_TABLES:
            # iptables' rules are clearest in its own syntax; nft 1.0.6 omits their comments.
            own = [line for line in _listing(_IPTABLES[family], "-t", table, "-S", name) if line.startswith("-A ")]
            if len(own) == len(listed):
                listed = [(handle, text) for (handle, _), text in zip(listed, own, strict=True)]
        texts |= {(chain, handle): text for handle, text in listed}
    return texts


def _listing(*argv: str) -> list[str]:
    """The lines that a program prints; none if there is no such program."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return []
    return done.stdout.splitlines()


def networks_of(addresses: Collection[bytes]) -> dict[bytes, str]:
    """The CNI networks that masquerade these addresses in the current network namespace.

    The comments of elements in the plugin's sets name the owner: NETWORK/CONTAINER/INTERFACE.
    """
    found = {}
    with Nfnetlink() as kernel:
        for name in ("pods4", "pods6"):
            with contextlib.suppress(NetlinkError):  # there is no such table
                for element in kernel.elements(Set("inet", _CNI_MASQUERADE, name)):
                    if element.key in addresses:
                        found[element.key] = element.comment.partition("/")[0]
    return found


def decisions(
    passage: Passage, texts: Texts, plan: Plan, networks: Mapping[bytes, str], refusal: Refusal = lambda *_: ""
) -> list[Decision]:
    """The rules that translated, rejected or dropped the packet.

    `plan` is that of the machine's proxy (empty if it has none), `networks` the CNI networks by the addresses that
    they masquerade. `refusal` says why the machine's policies drop a packet, in the form of `State.refusal`.
    """
    found = []
    dialled: tuple[Flow, int] | None = None
    met: Flow | None = None
    marks = [f"because of {_rule(step, texts)}" for step in passage.steps if step.verdict.chain in _MARKS]
    for step in passage.steps:
        if step.network:
            met = flow(step)
            dialled = dialled or (met, protocol(step))
        if met is None or dialled is None:
            continue
        kind = _kind(step, texts)
        if kind is None:
            continue
        frontend = Frontend(address_text(dialled[0][2]), _PROTOCOLS.get(dialled[1], ""), dialled[0][3])
        target = _target(step, frontend, plan)
        if step.table == POLICY_TABLE:
            name = refusal(passage.machine, address_text(met[0]), address_text(met[2]), _protocol(dialled[1]), met[3])
        else:
            name = _name(step, kind, frontend, target, plan, networks.get(met[0], ""), met)
        because = marks if kind == "SNAT" else []
        by = (*filter(None, [name]), _rule(step, texts), *because)
        found.append(Decision(kind, met, by, target.service if target else ""))
    return found


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, "icmp")


def _kind(step: Step, texts: Texts) -> Kind | None:
    words = _COMMENT.sub("", texts.get((_chain(step), step.handle), "")).lower().split()
    if step.verdict.code == _DROP:
        return "rejected" if "reject" in words else "dropped"
    if step.kind != "rule" or step.verdict.code != 1:
        return None
    # The last of them is the statement: `ct status dnat masquerade`.
    return next((_TRANSLATIONS[word] for word in reversed(words) if word in _TRANSLATIONS), None)


def _is_of_proxy(step: Step) -> bool:
    return step.table == TABLE or step.chain.startswith("KUBE-")


def _target(step: Step, frontend: Frontend, plan: Plan) -> Target | None:
    """The target that was dialled, if the rule is a proxy's."""
    if not _is_of_proxy(step):
        return None
    return plan.get(frontend) or plan.get(Frontend(None, frontend.protocol, frontend.port))


def _name(
    step: Step, kind: Kind, frontend: Frontend, target: Target | None, plan: Plan, network: str, met: Flow
) -> str:
    if _is_of_proxy(step):
        return _service(kind, frontend, target, plan, met)
    if step.table == _CNI_MASQUERADE:
        return f"ipMasq of CNI network {network}" if network else "ipMasq of a CNI network"
    if step.table == _CNI_PORTMAP:
        return "portMappings (hostPort) of the CNI plugin portmap"
    return ""


def _service(kind: Kind, frontend: Frontend, target: Target | None, plan: Plan, met: Flow) -> str:
    """Which part of a Service decided."""
    if target is None:
        return _nobody(kind, frontend, plan)
    internal = target.scope is Scope.INTERNAL
    field = "internalTrafficPolicy" if internal else "externalTrafficPolicy"
    name = f"Service {target.service}, {field} {target.policy}"
    if kind == "DNAT":
        count = len(target.cluster or target.local) if target.short_cut else len(target.endpoints)
        return f"{name}: one of {counted(count, 'endpoint')}"
    if kind == "SNAT":
        hairpin = met[0] == met[2]
        return f"{name}: masqueraded{', a pod that reaches itself (hairpin)' if hairpin else ''}"
    if target.endpoints:
        why = f"{address_text(met[0])} is not in loadBalancerSourceRanges" if target.sources else "refused"
    else:
        local = target.verdict is Verdict.DROP
        why = "there are endpoints, but none on this node" if local else "there are no endpoints"
    return f"{name}: {why}"


def _nobody(kind: Kind, frontend: Frontend, plan: Plan) -> str:
    if kind == "rejected" and any(each.address == frontend.address for each in plan):
        return f"{frontend.address} is a Service's address, and it has no port {frontend.port}/{frontend.protocol}"
    return f"no Service has the address {frontend.address}" if kind == "dropped" else "kube-proxy"


def _rule(step: Step, texts: Texts) -> str:
    place = f"{step.family} {step.table} {step.chain}"
    if step.kind == "policy":
        return f"policy {step.verdict!r} of {place}"
    text = texts.get((_chain(step), step.handle), f"handle {step.handle}")
    said = _COMMENT.search(text)
    name = f"rule {(said['quoted'] or said['word'])!r}" if said else "rule"
    return f"{name} of {place}: {text}"


def _chain(step: Step) -> Chain:
    return step.family, step.table, step.chain
