"""The Corefile: the part of CoreDNS's configuration that netlab understands (docs/dns.md has the list). Pure.

What it does not understand is refused with its line: a directive without effect would be worse than none.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from netlab.dns.names import REVERSE_ZONES, normal, reverse
from netlab.dns.records import Record
from netlab.errors import UsageError

DNS_PORT = 53
_DURATION = re.compile(r"(\d+)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MOST_UPSTREAMS = 15
"""Of one `forward`, as in CoreDNS."""

Pods = Literal["disabled", "insecure", "verified"]


class Address(NamedTuple):
    """Where something listens, or is asked. An empty host is every address of the pod."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True)
class Kubernetes:
    """The `kubernetes` plugin: the names of Services and pods."""

    zone: str
    reverse_zones: tuple[str, ...] = ()
    pods: Pods = "disabled"
    ttl: int = 5
    fallthrough: tuple[str, ...] = ()
    """The zones of which a name that does not exist is left to the plugins that follow."""

    @property
    def zones(self) -> tuple[str, ...]:
        """All that it answers for."""
        return (self.zone, *self.reverse_zones)


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The `hosts` plugin: addresses as in /etc/hosts."""

    records: tuple[Record, ...]
    zones: tuple[str, ...]
    ttl: int = 3600
    fallthrough: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Forward:
    """The `forward` plugin: other servers that are asked for the names of a zone."""

    zone: str
    upstreams: tuple[Address, ...]
    but: tuple[str, ...] = ()
    """Zones within it that are not forwarded."""
    policy: Literal["random", "round_robin", "sequential"] = "random"
    max_concurrent: int = 0
    """How many questions may wait for an answer at once; 0: any number."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A server block: the zones that are asked for at a port, and what answers."""

    zones: tuple[str, ...]
    port: int
    log: bool = False
    loadbalance: bool = False
    nsid: str | None = None
    """The name by which it says who has answered, to whom asks (RFC 5001); empty: the pod's own."""
    hosts: Hosts | None = None
    kubernetes: Kubernetes | None = None
    forwards: tuple[Forward, ...] = ()


@dataclasses.dataclass(frozen=True)
class Corefile:
    """A whole Corefile. The addresses are those of HTTP servers; without one there is none."""

    blocks: tuple[Block, ...]
    health: Address | None = None
    lameduck: float = 0.0
    """Seconds for which to answer on once told to end."""
    ready: Address | None = None
    prometheus: Address | None = None
    reload: float | None = None
    """Seconds between looks whether the file has changed; None: it is read once."""

    @property
    def kubernetes(self) -> Kubernetes | None:
        """The one `kubernetes` of the file."""
        return next((each.kubernetes for each in self.blocks if each.kubernetes), None)


class _Line(NamedTuple):
    number: int
    words: list[str]


@dataclasses.dataclass
class _Directive:
    """A plugin's name and arguments, and the lines between its braces."""

    line: int
    name: str
    arguments: list[str]
    body: list[_Line] = dataclasses.field(default_factory=list)


def parse(text: str, read: Callable[[str], str]) -> Corefile:
    """What a Corefile says. `read` gives the text of another file that it names (raising `OSError`).

    Raises `UsageError` naming the line.
    """
    file, blocks = Corefile(()), []
    for line, keys, directives in _blocks(text):
        made, file = _Reader(read, file).block(line, keys, directives)
        blocks += made
    if not blocks:
        raise UsageError("Corefile: there is no server block, such as `.:53 { ... }`")
    served = [(block.port, zone) for block in blocks for zone in block.zones]
    for port, zone in served:
        if served.count((port, zone)) > 1:
            raise UsageError(f"Corefile: {zone or '.'}:{port} has two server blocks")
    if sum(block.kubernetes is not None for block in blocks) > 1:
        raise UsageError("Corefile: `kubernetes` may be in one server block only")
    return dataclasses.replace(file, blocks=tuple(blocks))


def _wrong(line: int, text: str) -> UsageError:
    return UsageError(f"Corefile:{line}: {text}")


def _lines(text: str) -> Iterator[_Line]:
    for number, raw in enumerate(text.splitlines(), start=1):
        words = re.sub(r"(?:^|\s)#.*", "", raw).split()
        if any('"' in word or "{$" in word for word in words):
            raise _wrong(number, "quotation marks and variables are not understood")
        if words:
            yield _Line(number, words)


def _blocks(text: str) -> Iterator[tuple[int, list[str], list[_Directive]]]:
    """Server blocks: their first line, the keys before the brace, and their directives."""
    lines = _lines(text)
    for line in lines:
        if line.words[-1] != "{":
            raise _wrong(line.number, f"expected ZONE:PORT {{, found {' '.join(line.words)!r}")
        directives: list[_Directive] = []
        for inner in lines:
            if inner.words == ["}"]:
                break
            opened = inner.words[-1] == "{"
            name, *arguments = inner.words[:-1] if opened else inner.words
            directives.append(_Directive(inner.number, name, arguments))
            if opened:
                directives[-1].body = list(_body(inner.number, lines))
        else:
            raise _wrong(line.number, "its brace is not closed")
        yield line.number, [key.rstrip(",") for key in line.words[:-1]], directives


def _body(line: int, lines: Iterator[_Line]) -> Iterator[_Line]:
    for inner in lines:
        if inner.words == ["}"]:
            return
        yield inner
    raise _wrong(line, "its brace is not closed")


class _Reader:
    """Reads the directives of one block."""

    def __init__(self, read: Callable[[str], str], file: Corefile) -> None:
        self._read = read
        self._file = file

    def block(self, line: int, keys: Sequence[str], directives: Sequence[_Directive]) -> tuple[list[Block], Corefile]:
        """The block, once for each port, and the file with what the block says of the whole server."""
        if not keys or keys[0].startswith("("):
            raise _wrong(line, "a server block begins with its zones; snippets are not understood")
        by_port: dict[int, list[str]] = {}
        for key in keys:
            zone, port = _key(line, key)
            by_port.setdefault(port, []).append(zone)
        whole = Block(tuple(zone for zones in by_port.values() for zone in zones), 0)
        for directive in directives:
            known = getattr(self, f"_on_{directive.name}", None)
            if known is None:
                names = sorted(name.removeprefix("_on_") for name in vars(_Reader) if name.startswith("_on_"))
                raise _wrong(
                    directive.line, f"there is no plugin {directive.name!r} here; there are {', '.join(names)}"
                )
            whole = known(whole, directive)
        made = [dataclasses.replace(whole, zones=tuple(zones), port=port) for port, zones in by_port.items()]
        return made, self._file

    def _note(self, **changes: object) -> None:
        self._file = dataclasses.replace(self._file, **changes)  # type: ignore[arg-type]

    def _on_errors(self, block: Block, directive: _Directive) -> Block:
        return block  # errors are always told

    def _on_cache(self, block: Block, directive: _Directive) -> Block:
        return block  # what is known is kept encoded; what others answered is asked again

    def _on_loop(self, block: Block, directive: _Directive) -> Block:
        return block

    def _on_log(self, block: Block, directive: _Directive) -> Block:
        _nothing_more(directive)
        return dataclasses.replace(block, log=True)

    def _on_loadbalance(self, block: Block, directive: _Directive) -> Block:
        _one_of(directive.line, "loadbalance", directive.arguments or ["round_robin"], ("round_robin",))
        return dataclasses.replace(block, loadbalance=True)

    def _on_nsid(self, block: Block, directive: _Directive) -> Block:
        return dataclasses.replace(block, nsid=" ".join(directive.arguments))

    def _on_health(self, block: Block, directive: _Directive) -> Block:
        seconds = 0.0
        for line, words in directive.body:
            if words[0] != "lameduck" or len(words) != 2:
                raise _wrong(line, f"health has lameduck DURATION, not {' '.join(words)!r}")
            seconds = _seconds(line, words[1])
        self._note(health=_listen(directive, 8080), lameduck=seconds)
        return block

    def _on_ready(self, block: Block, directive: _Directive) -> Block:
        self._note(ready=_listen(directive, 8181))
        return block

    def _on_prometheus(self, block: Block, directive: _Directive) -> Block:
        self._note(prometheus=_listen(directive, 9153, "localhost"))
        return block

    def _on_reload(self, block: Block, directive: _Directive) -> Block:
        self._note(reload=_seconds(directive.line, directive.arguments[0]) if directive.arguments else 30.0)
        return block

    def _on_kubernetes(self, block: Block, directive: _Directive) -> Block:
        zones = [_name(directive.line, each) for each in directive.arguments] or list(block.zones)
        backward = tuple(zone for zone in zones if zone.endswith(REVERSE_ZONES))
        forward = [zone for zone in zones if zone not in backward]
        if len(forward) != 1 or not forward[0]:
            raise _wrong(directive.line, "kubernetes has one zone, such as cluster.local, and reverse zones")
        made = Kubernetes(forward[0], backward)
        for line, (key, *values) in directive.body:
            match key, values:
                case "pods", [mode]:
                    _one_of(line, "pods", values, ("disabled", "insecure", "verified"))
                    made = dataclasses.replace(made, pods=mode)  # type: ignore[arg-type]
                case "ttl", [text]:
                    made = dataclasses.replace(made, ttl=_number(line, text, 0, 3600))
                case "fallthrough", _:
                    made = dataclasses.replace(made, fallthrough=_zones(line, values))
                case _:
                    raise _wrong(line, f"kubernetes has pods, ttl and fallthrough, not {' '.join([key, *values])!r}")
        return dataclasses.replace(block, kubernetes=made)

    def _on_hosts(self, block: Block, directive: _Directive) -> Block:
        arguments = directive.arguments
        records = []
        if arguments and "/" in arguments[0]:
            try:
                text = self._read(arguments[0])
            except OSError as error:
                raise _wrong(directive.line, f"{arguments[0]} cannot be read: {error.strerror}") from None
            records += [record for each in _lines(text) for record in _of_host(each)]
            arguments = arguments[1:]
        made = Hosts((), tuple(_name(directive.line, each) for each in arguments) or block.zones)
        for each in directive.body:
            match each.words:
                case ["ttl", text]:
                    made = dataclasses.replace(made, ttl=_number(each.number, text, 1, 65535))
                case ["fallthrough", *zones]:
                    made = dataclasses.replace(made, fallthrough=_zones(each.number, zones))
                case _:
                    records += _of_host(each)
        return dataclasses.replace(block, hosts=dataclasses.replace(made, records=tuple(records)))

    def _on_forward(self, block: Block, directive: _Directive) -> Block:
        if len(directive.arguments) < 2:
            raise _wrong(directive.line, "forward needs a zone and whom to ask: forward . ADDRESS[:PORT]...")
        zone, *places = directive.arguments
        upstreams = tuple(each for place in places for each in self._upstreams(directive.line, place))
        if not 0 < len(upstreams) <= _MOST_UPSTREAMS:
            raise _wrong(
                directive.line, f"forward has {len(upstreams)} servers to ask; 1 to {_MOST_UPSTREAMS} are possible"
            )
        made = Forward(_name(directive.line, zone), upstreams)
        for line, (key, *values) in directive.body:
            match key, values:
                case "except", [_, *_]:
                    made = dataclasses.replace(made, but=tuple(_name(line, each) for each in values))
                case "policy", [policy]:
                    _one_of(line, "policy", values, ("random", "round_robin", "sequential"))
                    made = dataclasses.replace(made, policy=policy)  # type: ignore[arg-type]
                case "max_concurrent", [text]:
                    made = dataclasses.replace(made, max_concurrent=_number(line, text, 1, 100_000))
                case _:
                    said = " ".join([key, *values])
                    raise _wrong(line, f"forward has except, policy and max_concurrent, not {said!r}")
        return dataclasses.replace(block, forwards=(*block.forwards, made))

    def _upstreams(self, line: int, place: str) -> Iterator[Address]:
        if not place.startswith("/"):
            yield _address(line, place.removeprefix("dns://"), DNS_PORT)
            return
        try:
            text = self._read(place)
        except OSError as error:
            raise _wrong(line, f"{place} cannot be read: {error.strerror}") from None
        for words in map(str.split, text.splitlines()):
            if words[:1] == ["nameserver"] and len(words) > 1:
                yield _address(line, words[1], DNS_PORT)


def _of_host(line: _Line) -> Iterator[Record]:
    """The records of a line of /etc/hosts: the address's PTR record has its first name."""
    try:
        address = str(ipaddress.ip_address(line.words[0]))
    except ValueError:
        raise _wrong(line.number, f"{line.words[0]!r} is no address") from None
    names = [_name(line.number, each) for each in line.words[1:]]
    if not names:
        raise _wrong(line.number, f"{address} has no name")
    for name in names:
        yield Record(name, "AAAA" if ":" in address else "A", address)
    yield Record(reverse(address), "PTR", names[0])


def _key(line: int, text: str) -> tuple[str, int]:
    name, colon, port = text.removeprefix("dns://").partition(":")
    return _name(line, name), _number(line, port, 1, 65535) if colon else DNS_PORT


def _name(line: int, text: str) -> str:
    name = normal(text)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".") if name):
        raise _wrong(line, f"{text!r} is no domain name")
    return name


def _zones(line: int, words: Sequence[str]) -> tuple[str, ...]:
    """The zones after `fallthrough`; none are all of them."""
    return tuple(_name(line, each) for each in words) or ("",)


def _listen(directive: _Directive, port: int, host: str = "") -> Address:
    if len(directive.arguments) > 1:
        raise _wrong(directive.line, f"{directive.name} has one address, such as :{port}")
    if not directive.arguments:
        return Address(host, port)
    name, colon, number = directive.arguments[0].rpartition(":")
    if not colon:
        raise _wrong(directive.line, f"{directive.arguments[0]!r} is no address, such as :{port}")
    return Address(name.strip("[]"), _number(directive.line, number, 1, 65535))


def _address(line: int, text: str, port: int) -> Address:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT."""
    host, number = text, str(port)
    if text.startswith("[") or text.count(":") == 1:
        host, _, number = text.rpartition(":")
    try:
        return Address(str(ipaddress.ip_address(host.strip("[]"))), _number(line, number, 1, 65535))
    except ValueError:
        raise _wrong(line, f"{text!r} is no ADDRESS or ADDRESS:PORT") from None


def _number(line: int, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise _wrong(line, f"{text!r} is no number from {least} to {most}")
    return int(text)


def _seconds(line: int, text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise _wrong(line, f"{text!r} is no duration, such as 5s")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def _one_of(line: int, what: str, words: Sequence[str], allowed: Sequence[str]) -> None:
    if len(words) != 1 or words[0] not in allowed:
        raise _wrong(line, f"{what} is {', '.join(allowed[:-1])}{' or ' * (len(allowed) > 1)}{allowed[-1]}")


def _nothing_more(directive: _Directive) -> None:
    if directive.arguments or directive.body:
        raise _wrong(directive.line, f"{directive.name} has no arguments here")
