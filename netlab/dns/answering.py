"""What to say to a question: the plugins of a server block, in CoreDNS's order (hosts, kubernetes, forward)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from netlab.dns.cluster import ClusterNames
from netlab.dns.corefile import Block, Corefile, Forward, Hosts
from netlab.dns.names import closest, is_within
from netlab.dns.records import Authority, Node, Record, Server

if TYPE_CHECKING:
    from netlab.dns.messages import Answer

_ALIASES = 8
"""How many CNAMEs are followed."""

_NOT_AUTHORITATIVE, _NO_SUCH_PLUGIN = 20, "the Corefile forwards no such name"
"""RFC 8914, section 4.21."""


class Told(NamedTuple):
    """An answer, and whether it is worth keeping until one of its `subject`s changes."""

    answer: Answer
    keep: bool


class Asked(NamedTuple):
    """Others are to be asked: for the whole question or, with `alias`, for where a CNAME leads."""

    forward: Forward
    begun: Answer | None = None
    alias: str = ""


class Answering:
    """The answers of one server block."""

    def __init__(self, block: Block, cluster: ClusterNames | None) -> None:
        self.block = block
        self.cluster = cluster if block.kubernetes else None
        self.serial = 1
        """Of the zone."""
        self._recursion = bool(block.forwards)
        self._hosts = _by_name(block.hosts) if block.hosts else {}

    def answer(self, name: str, kind: str) -> Told | Asked:
        """What to say about a name, in lower case, and a type of record."""
        block = self.block
        if block.hosts and closest(name, block.hosts.zones) is not None:
            node = self._hosts.get(name)
            if node is not None:
                return Told(self._found(name, kind, node, block.hosts.ttl, authority=None), keep=True)
            if closest(name, block.hosts.fallthrough) is None:
                return Told(self._new(rcode="NXDOMAIN"), keep=True)
        if self.cluster is not None and (zone := closest(name, self.cluster.config.zones)) is not None:
            node = self.cluster.find(name)
            # Addresses that no Service has are not denied: another server may know them.
            if node is not None and "CNAME" in node and kind != "CNAME":
                return self._aliased(name, kind, node)
            if node is not None or closest(name, self.cluster.config.fallthrough) is None:
                return Told(self._of_cluster(name, kind, node, zone), keep=True)
        if (forward := self._forward(name)) is not None:
            return Asked(forward)
        because = (_NOT_AUTHORITATIVE, _NO_SUCH_PLUGIN)
        return Told(self._new(rcode="REFUSED", authoritative=False, because=because), keep=True)

    def _new(self, **fields: object) -> Answer:
        from netlab.dns.messages import Answer

        return Answer(recursion=self._recursion, **fields)  # type: ignore[arg-type]

    def _of_cluster(self, name: str, kind: str, node: Node | None, zone: str) -> Answer:
        assert self.cluster is not None
        ttl = self.cluster.config.ttl
        authority = Record(zone, "SOA", Authority(zone, self.serial, ttl))
        if node is None and name != zone:
            return self._new(rcode="NXDOMAIN", authority=[authority], ttl=ttl)
        return self._found(name, kind, node or {}, ttl, authority, apex=name == zone)

    def _found(
        self, name: str, kind: str, node: Node, ttl: int, authority: Record | None, *, apex: bool = False
    ) -> Answer:
        """What a name that exists has of a type."""
        if kind == "ANY":
            return self._new(answers=[Record(name, "HINFO", "RFC8482")], ttl=ttl)
        if kind == "SOA" and apex and authority is not None:
            return self._new(answers=[authority], ttl=ttl)
        answers = [Record(name, kind, data) for data in node.get(kind, ())]
        if not answers:
            return self._new(authority=[authority] if authority else [], ttl=ttl)
        return self._new(answers=answers, additional=list(self._beside(answers)), ttl=ttl)

    def _beside(self, answers: Sequence[Record]) -> Sequence[Record]:
        """The addresses of the servers that SRV and NS records name."""
        found = []
        for record in answers:
            target = record.data.target if isinstance(record.data, Server) else record.data
            if record.type in ("SRV", "NS") and isinstance(target, str) and self.cluster is not None:
                node = self.cluster.find(target) or {}
                found += [Record(target, kind, data) for kind in ("A", "AAAA") for data in node.get(kind, ())]
        return list(dict.fromkeys(found))

    def _aliased(self, name: str, kind: str, node: Node) -> Told | Asked:
        """An ExternalName: the alias, and what is known of where it leads."""
        assert self.cluster is not None
        answer = self._new(answers=[], ttl=self.cluster.config.ttl)
        chain: list[Record] = []
        target = name
        while node is not None and "CNAME" in node and len(chain) < _ALIASES:
            chain.append(Record(target, "CNAME", node["CNAME"][0]))
            target = str(node["CNAME"][0])
            node = (self.cluster.find(target) if is_within(target, self.cluster.config.zone) else None) or {}
        answer.answers = [*chain, *(Record(target, kind, data) for data in node.get(kind, ()))]
        if not is_within(target, self.cluster.config.zone) and (forward := self._forward(target)) is not None:
            return Asked(forward, answer, target)
        return Told(answer, keep=False)

    def _forward(self, name: str) -> Forward | None:
        zones = [each.zone for each in self.block.forwards if closest(name, each.but) is None]
        zone = closest(name, zones)
        return next((each for each in self.block.forwards if each.zone == zone), None) if zone is not None else None


def _by_name(hosts: Hosts) -> dict[str, Node]:
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    for record in hosts.records:
        node = found.setdefault(record.owner, {})
        node[record.type] = (*node.get(record.type, ()), record.data)
    return found  # type: ignore[return-value]


def block_of(corefile: Corefile, port: int, name: str) -> Block | None:
    """The server block that answers for a name at a port: the one with the longest zone."""
    blocks = [each for each in corefile.blocks if each.port == port]
    zone = closest(name, (zone for each in blocks for zone in each.zones))
    return next((each for each in blocks if zone in each.zones), None) if zone is not None else None
