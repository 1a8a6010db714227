"""NetworkPolicies (upstream: pkg/apis/networking/validation)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from netlab.api.networking_types import IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

_PROTOCOLS = ("SCTP", "TCP", "UDP")


def network_policy(new: NetworkPolicy, problems: Problems) -> None:
    """networking.k8s.io/v1.NetworkPolicy."""
    spec = new.spec
    rules.label_selector("spec.podSelector", spec.podSelector, problems)
    for index, allowed in enumerate(spec.ingress):
        _rule(f"spec.ingress[{index}]", "from", allowed.from_, allowed.ports, problems)
    for index, each in enumerate(spec.egress):
        _rule(f"spec.egress[{index}]", "to", each.to, each.ports, problems)
    if len(spec.policyTypes) > 2:
        problems.invalid("spec.policyTypes", spec.policyTypes, "may not specify more than two policyTypes")
    else:
        for index, kind in enumerate(spec.policyTypes):
            problems.one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))


def _rule(
    path: str, name: str, peers: Sequence[NetworkPolicyPeer], ports: Sequence[NetworkPolicyPort], problems: Problems
) -> None:
    for index, port in enumerate(ports):
        _port(f"{path}.ports[{index}]", port, problems)
    for index, peer in enumerate(peers):
        _peer(f"{path}.{name}[{index}]", peer, problems)


def _port(path: str, port: NetworkPolicyPort, problems: Problems) -> None:
    problems.one_of(f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.port is not None:
        rules.port_or_name(f"{path}.port", port.port, problems)
    if port.endPort is None:
        return
    if port.port is None:
        problems.required(f"{path}.port", "must be specified when endPort is set")
    elif isinstance(port.port, str):
        problems.invalid(f"{path}.endPort", port.endPort, "may not be specified when `port` is non-numeric")
    elif port.endPort < port.port:
        problems.invalid(f"{path}.endPort", port.endPort, "must be greater than or equal to `port`")
    else:
        rules.port(f"{path}.endPort", port.endPort, problems)


def _peer(path: str, peer: NetworkPolicyPeer, problems: Problems) -> None:
    selectors = (("podSelector", peer.podSelector), ("namespaceSelector", peer.namespaceSelector))
    given = [(name, selector) for name, selector in selectors if selector is not None]
    for name, selector in given:
        rules.label_selector(f"{path}.{name}", selector, problems)
    if peer.ipBlock is None:
        if not given:
            problems.required(path, "must specify a peer")
        return
    if given:
        problems.forbidden(path, "may not specify both ipBlock and another peer")
    _block(f"{path}.ipBlock", peer.ipBlock, problems)


def _block(path: str, block: IPBlock, problems: Problems) -> None:
    if not block.cidr:
        problems.required(f"{path}.cidr")
        return
    if rules.cidr(f"{path}.cidr", block.cidr, problems) is None:
        return
    outer = ipaddress.ip_network(block.cidr, strict=False)
    for index, text in enumerate(block.except_):
        where = f"{path}.except[{index}]"
        if rules.cidr(where, text, problems) is None:
            continue
        inner = ipaddress.ip_network(text, strict=False)
        if inner.version != outer.version or inner == outer or not inner.subnet_of(outer):  # type: ignore[arg-type]
            problems.invalid(where, text, "must be a strict subset of `cidr`")
