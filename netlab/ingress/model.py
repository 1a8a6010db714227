"""The routing table: which requests go where. What Ingresses say, without their words, and without HAProxy's."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class HostKind(enum.IntEnum):
    """What a host stands for; of two that match a request the lower kind is the more specific one."""

    EXACT = 0
    """The name."""
    ONE_LABEL = 1
    """Any label before the name, and no more than one: `*.example.com` of an Ingress."""
    ANY = 2
    """Every host, also none."""


class Host(NamedTuple):
    """Hosts for which a rule is; the name is in lower case, and of ONE_LABEL without `*.`."""

    kind: HostKind = HostKind.ANY
    name: str = ""

    def covering(self) -> Iterator[Host]:
        """It, and all others that are for each of its requests too, the more specific ones first."""
        yield self
        if self.kind is HostKind.EXACT:
            yield Host(HostKind.ONE_LABEL, self.name.partition(".")[2])
        if self.kind is not HostKind.ANY:
            yield Host()

    def __str__(self) -> str:
        return {HostKind.EXACT: self.name, HostKind.ONE_LABEL: f"*.{self.name}"}.get(self.kind, "*")


class PathKind(enum.IntEnum):
    """How a path is compared; an exact one comes before any prefix."""

    EXACT = 0
    PREFIX = 1
    """By elements: `/a` is a prefix of `/a`, `/a/` and `/a/b`, and not of `/ab`."""


class Path(NamedTuple):
    """A path of requests. Of a prefix the value has no slash at its end, so that of all paths is empty."""

    kind: PathKind
    value: str

    def covering(self) -> Iterator[Path]:
        """It, and all others that are for each of its requests too."""
        yield self
        if self.kind is PathKind.EXACT:
            yield Path(PathKind.PREFIX, self.value.rstrip("/"))
        for place, letter in enumerate(self.value):
            if letter == "/":
                yield Path(PathKind.PREFIX, self.value[:place])

    def __str__(self) -> str:
        return f"={self.value}" if self.kind is PathKind.EXACT else f"{self.value}/"


EVERY_PATH = Path(PathKind.PREFIX, "")


class ServicePort(NamedTuple):
    """A port of a Service, by its number there."""

    namespace: str
    service: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}"


class Rule(NamedTuple):
    """Where requests go that are for a host and a path."""

    host: Host
    path: Path
    destination: ServicePort | None
    """None: there is no such Service or port. Such requests are answered with 503."""
    is_fallback: bool = False
    """Whether it is for what no other rule of its host takes: another one for the same host and path is before it."""


class Certificate(NamedTuple):
    """What a server shows, and the hosts (`*.` before a name: any one label) for which it does."""

    pem: str
    """The chain and the private key."""
    hosts: tuple[str, ...]


class Table(NamedTuple):
    """All rules, of which no two are for the same host and path and equal in `is_fallback`, and all certificates, of
    which no two are for the same host."""

    rules: tuple[Rule, ...] = ()
    certificates: tuple[Certificate, ...] = ()


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Rules as they are looked at, the first that matches decides: by host, then by path, the more specific first."""

    def rank(rule: Rule) -> tuple[HostKind, int, bool, PathKind, int]:
        return (rule.host.kind, -len(rule.host.name), rule.is_fallback, rule.path.kind, -len(rule.path.value))

    return sorted(rules, key=rank)
