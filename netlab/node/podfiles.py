"""The files a kubelet writes into every container: /etc/hosts, /etc/resolv.conf, and the pod's hostname."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from netlab.api.core_types import HostAlias, Pod, PodDNSConfig

_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
"""Kubernetes' limits for /etc/resolv.conf (glibc's MAXNS; glibc has no limit on searches since 2.26)."""

_HEADER = "# Kubernetes-managed hosts file{}.\n"
_LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


@dataclasses.dataclass(frozen=True)
class ClusterDNS:
    """The cluster's name servers; without any, pods have no name service."""

    servers: Sequence[str] = ()
    domain: str = "cluster.local"


def hostname(pod: Pod, domain: str, node_name: str) -> tuple[str, str]:
    """The pod's hostname, and its fully qualified name ("" without a subdomain).

    A pod in its node's network has the node's name.
    """
    if pod.spec.hostNetwork:
        return node_name, ""
    # The kernel takes 64 bytes, a DNS label 63: longer names are cut, as upstream does (GeneratePodHostNameAndDomain).
    short = (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")
    if not pod.spec.subdomain:
        return short, ""
    full = f"{short}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"
    return (full if pod.spec.setHostnameAsFQDN and len(full) <= 64 else short), full


def hosts(pod: Pod, pod_ips: Iterable[str], domain: str, node_name: str) -> str:
    """The text of /etc/hosts."""
    name, full = hostname(pod, domain, node_name)
    names = [full, name] if full and full != name else [name]
    text = _HEADER.format(" (host network)" if pod.spec.hostNetwork else "") + _LOCAL
    text += "".join("\t".join([ip, *names]) + "\n" for ip in pod_ips)
    return text + _aliases(pod.spec.hostAliases)


def _aliases(aliases: list[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = ["\t".join([alias.ip, *alias.hostnames]) + "\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)


def resolv_conf(pod: Pod, dns: ClusterDNS) -> str:
    """The text of /etc/resolv.conf by dnsPolicy and dnsConfig.

    The lab's nodes have no name server, so policy Default, and ClusterFirst in a cluster without DNS, give only what
    dnsConfig says.
    """
    policy = pod.spec.dnsPolicy or "ClusterFirst"
    if policy == "ClusterFirst" and pod.spec.hostNetwork:
        policy = "Default"
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and dns.servers:
        servers += dns.servers
        searches += [f"{pod.metadata.namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain]
        options["ndots"] = "5"
    own = pod.spec.dnsConfig or PodDNSConfig()
    servers = list(dict.fromkeys(servers + own.nameservers))[:_MAX_NAMESERVERS]
    searches = list(dict.fromkeys(searches + own.searches))[:_MAX_SEARCHES]
    options |= {option.name: option.value for option in own.options}

    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        words = [name if value is None else f"{name}:{value}" for name, value in options.items()]
        lines.append(f"options {' '.join(words)}")
    return "".join(line + "\n" for line in lines)
