"""The files a kubelet writes into every container: /etc/hosts, /etc/resolv.conf, and the pod's hostname."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from netlab.api.core_types import HostAlias, Pod, PodDNSConfig
from netlab.errors import UsageError

_MAX_NAMESERVERS = 3
_MAX_SEARCHES, _MAX_SEARCH, _MAX_SEARCH_LINE = 32, 253, 2048
"""Kubernetes' limits for /etc/resolv.conf: name servers (glibc's MAXNS); search domains, characters of one, and of all
with the spaces between them."""

_MAX_HOSTNAME = 64
"""Bytes of a hostname that the kernel takes (__NEW_UTS_LEN)."""

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

    A pod in its node's network has the node's name. Raises `UsageError` for a full name that is to be the hostname, and
    is longer than the kernel takes.
    """
    if pod.spec.hostNetwork:
        return node_name, ""
    # The kernel takes 64 bytes, a DNS label 63: longer names are cut, as upstream does (GeneratePodHostNameAndDomain).
    short = (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")
    if not pod.spec.subdomain:
        return short, ""
    full = f"{short}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"
    if not pod.spec.setHostnameAsFQDN:
        return short, full
    if len(full) > _MAX_HOSTNAME:
        raise UsageError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({_MAX_HOSTNAME} "
            f"characters is the max, {len(full)} characters requested)"
        )
    return full, full


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


@dataclasses.dataclass(frozen=True)
class ResolvConf:
    """A container's /etc/resolv.conf, and what had to be left out of it, in upstream's words."""

    servers: list[str]
    searches: list[str]
    options: dict[str, str | None]
    warnings: list[str]

    @property
    def text(self) -> str:
        """The file's text."""
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.servers]
        if self.options:
            words = [name if not value else f"{name}:{value}" for name, value in self.options.items()]
            lines.append(f"options {' '.join(words)}")
        return "".join(line + "\n" for line in lines)


def resolv_conf(pod: Pod, dns: ClusterDNS) -> ResolvConf:
    """A pod's /etc/resolv.conf by dnsPolicy and dnsConfig (upstream: kubelet/network/dns).

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
    return _within_limits(
        list(dict.fromkeys(servers + own.nameservers)),
        list(dict.fromkeys(searches + own.searches)),
        options | {option.name: option.value for option in own.options},
    )


def _within_limits(servers: list[str], searches: list[str], options: dict[str, str | None]) -> ResolvConf:
    warnings = []
    if len(servers) > _MAX_NAMESERVERS:
        servers = servers[:_MAX_NAMESERVERS]
        warnings.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            + " ".join(servers)
        )
    kept = [each for each in searches[:_MAX_SEARCHES] if len(each) <= _MAX_SEARCH]
    while len(" ".join(kept)) > _MAX_SEARCH_LINE:
        kept.pop()
    if kept != searches:
        warnings.append(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(kept)
        )
    return ResolvConf(servers, kept, options, warnings)
