"""The programs that a lab runs, and their packages."""

from __future__ import annotations

import dataclasses
import shutil

from netlab.errors import UnsupportedError


@dataclasses.dataclass(frozen=True)
class Program:
    """A program by its name on the PATH, and its package by distribution (setup/setup installs the same)."""

    name: str
    debian: str
    fedora: str

    def path(self) -> str:
        """Its path. Raises `UnsupportedError` if it is not on the PATH."""
        found = shutil.which(self.name)
        if found is None:
            raise UnsupportedError(f"no program {self.name!r} on the PATH")
        return found

    @property
    def remedy(self) -> str:
        """The command that installs it here."""
        if shutil.which("dnf"):
            return f"`sudo dnf install {self.fedora}`"
        return f"`sudo apt-get install {self.debian}`"


NFT = Program("nft", "nftables", "nftables")
IPTABLES_RESTORE = Program("iptables-restore", "iptables", "iptables-nft")
IP6TABLES_RESTORE = Program("ip6tables-restore", "iptables", "iptables-nft")
CONNTRACK = Program("conntrack", "conntrack", "conntrack-tools")
TCPDUMP = Program("tcpdump", "tcpdump", "tcpdump")
CURL = Program("curl", "curl", "curl")
ETCD = Program("etcd", "etcd-server", "etcd")
BIRD = Program("bird", "bird2", "bird")
HAPROXY = Program("haproxy", "haproxy", "haproxy")
IP = Program("ip", "iproute2", "iproute")
PYTHON = Program("python3", "python3", "python3")


def require(
    *, network: str, proxy: str, store: str = "sqlite", load_balancer_protocol: str = "arp", ingress: bool = False
) -> None:
    """Raise `UnsupportedError` if a program is missing that a lab with this pod network, proxy and store runs."""
    # Every pod network masquerades what its pods send out of the cluster, in any proxy mode.
    needs = {NFT: f"the pod network ({network})"}
    if proxy == "iptables":
        needs |= dict.fromkeys((IPTABLES_RESTORE, IP6TABLES_RESTORE), "--proxy iptables")
    if store == "etcd":
        needs[ETCD] = "--store etcd"
    if load_balancer_protocol == "bgp":
        needs[BIRD] = "--load-balancer-protocol bgp"
    if ingress:
        needs[HAPROXY] = "--ingress"
    for program, need in needs.items():
        try:
            program.path()
        except UnsupportedError as error:
            raise UnsupportedError(f"{need}: {error}; install it with {program.remedy}") from error
