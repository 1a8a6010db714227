"""dig, where the host has none: what people and Kubernetes' tests use of BIND's.

dig [@SERVER] [-p PORT] [-x ADDRESS] [-t TYPE] [-4|-6] NAME [TYPE] [+OPTION...]
"""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from netlab import __version__
from netlab.dns import resolver
from netlab.dns.names import reverse
from netlab.dns.resolver import ResolvConf

_PARTS = ("cmd", "comments", "question", "answer", "authority", "additional", "stats")
_SWITCHES = {
    "tcp": "tcp",
    "vc": "tcp",
    "search": "search",
    "short": "short",
    "edns": "edns",
    "recurse": "recurse",
    "rec": "recurse",
}
_NUMBERS = {"bufsize": "payload", "time": "seconds", "tries": "tries", "ndots": "ndots"}
_UNREACHED, _WRONG = 9, 1
"""dig's exit statuses."""


class UsageError(Exception):
    """The command line is wrong."""


@dataclasses.dataclass
class Options:
    """A command line."""

    name: str = "."
    type: str = "A"
    server: str = ""
    port: int = 53
    tcp: bool = False
    search: bool = False
    short: bool = False
    edns: bool = True
    recurse: bool = True
    payload: int = 1232
    seconds: int = 5
    tries: int = 3
    ndots: int | None = None
    shown: dict[str, bool] = dataclasses.field(default_factory=lambda: dict.fromkeys(_PARTS, True))


def parse(arguments: Sequence[str]) -> Options:
    """Read a command line. Raises `UsageError`."""
    options, rest, names = Options(), list(arguments), 0
    while rest:
        word = rest.pop(0)
        if word.startswith("@"):
            options.server = word[1:]
        elif word.startswith("+"):
            _switch(options, word[1:])
        elif word in ("-4", "-6"):
            continue
        elif word.startswith("-") and word[1:2] in ("p", "x", "t", "q", "c"):
            value = word[2:] or (rest.pop(0) if rest else "")
            names += _flag(options, word[1], value)
        elif word.startswith("-"):
            raise UsageError(f"invalid option: {word}")
        elif word.upper() in ("IN", "CH", "HS"):
            continue
        elif names and _is_type(word):
            options.type = word.upper()
        else:
            options.name, names = word, names + 1
    if not names:
        options.type = "NS"
    return options


def _flag(options: Options, flag: str, value: str) -> int:
    """Set what a flag says. Returns how many names it gives."""
    try:
        match flag:
            case "p":
                options.port = int(value)
            case "x":
                options.name, options.type = f"{reverse(value)}.", "PTR"
                return 1
            case "t":
                if not _is_type(value):
                    raise UsageError(f"invalid type {value!r}")
                options.type = value.upper()
            case "q":
                options.name = value
                return 1
    except ValueError:
        raise UsageError(f"-{flag}: invalid value {value!r}") from None
    return 0


def _switch(options: Options, text: str) -> None:
    """Set what `+WORD`, `+noWORD` or `+WORD=NUMBER` says."""
    word, _, value = text.partition("=")
    is_on = not word.startswith("no")
    name = word.removeprefix("no")
    if name == "all":
        options.shown = dict.fromkeys(_PARTS, is_on)
    elif name in _PARTS:
        options.shown[name] = is_on
    elif name in _SWITCHES:
        setattr(options, _SWITCHES[name], is_on)
    elif name in _NUMBERS:
        try:
            setattr(options, _NUMBERS[name], max(int(value), 0))
        except ValueError:
            raise UsageError(f"+{word}: invalid value {value!r}") from None
    else:
        raise UsageError(f"invalid option: +{text}")
    options.search = options.search or name == "ndots"


def _is_type(word: str) -> bool:
    try:
        dns.rdatatype.from_text(word)
    except dns.exception.DNSException:
        return False
    return True


def main() -> int:
    """Ask, and print; the exit status."""
    try:
        options = parse(sys.argv[1:])
        return _run(options, own_conf())
    except (UsageError, OSError, dns.exception.DNSException) as error:
        print(f"dig: {error}", file=sys.stderr)
        return _WRONG


def own_conf() -> ResolvConf:
    """This container's /etc/resolv.conf. Raises `OSError`."""
    return resolver.parse(Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace"))


def _run(options: Options, conf: ResolvConf) -> int:
    if options.ndots is not None:
        conf = dataclasses.replace(conf, ndots=options.ndots)
    if options.shown["cmd"] and not options.short:
        print(f"\n; <<>> dig of netlab {__version__} <<>> {' '.join(sys.argv[1:])}\n;; global options: +cmd")
    servers = [_server(options.server)] if options.server else list(conf.servers) or ["127.0.0.1"]
    candidates = conf.candidates(options.name) if options.search else [options.name.rstrip(".") + "."]
    answer = None
    for name in candidates:
        answer = ask(options, servers, name)
        if answer is None or answer.message.rcode() == dns.rcode.NOERROR:
            break
    if answer is None:
        print(f";; no servers could be reached ({', '.join(servers)})")
        return _UNREACHED
    for line in _lines(options, answer):
        print(line)
    return 0


def _server(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return str(socket.getaddrinfo(text, None)[0][4][0])


@dataclasses.dataclass(frozen=True)
class Answer:
    """A server's answer: its size in bytes, and the seconds that it took."""

    message: dns.message.Message
    server: str
    size: int
    seconds: float
    tcp: bool


def ask(options: Options, servers: Sequence[str], name: str) -> Answer | None:
    """The first answer of a server; one that was truncated is asked for again by TCP."""
    query = dns.message.make_query(
        dns.name.from_text(name),
        options.type,
        use_edns=0 if options.edns else False,
        payload=options.payload,
        flags=dns.flags.RD if options.recurse else 0,
    )
    for _ in range(max(options.tries, 1)):
        for server in servers:
            tcp = options.tcp
            while True:
                began = time.monotonic()
                try:
                    wire = resolver.exchange(
                        server, options.port, query.to_wire(), tcp=tcp, seconds=max(options.seconds, 1)
                    )
                    message = dns.message.from_wire(wire)
                except (OSError, EOFError, dns.exception.DNSException):
                    break
                if message.flags & dns.flags.TC and not tcp:
                    tcp = True
                    continue
                return Answer(message, server, len(wire), time.monotonic() - began, tcp)
    return None


def _lines(options: Options, answer: Answer) -> Iterator[str]:
    message, shown = answer.message, options.shown
    if options.short:
        yield from (rdata.to_text() for each in message.answer for rdata in each)
        return
    if shown["comments"]:
        flags = dns.flags.to_text(message.flags).lower()
        counts = zip(("QUERY", "ANSWER", "AUTHORITY"), message.sections, strict=False)
        additional = len(message.additional) + (message.edns >= 0)
        yield ";; Got answer:"
        status = dns.rcode.to_text(message.rcode())
        yield f";; ->>HEADER<<- opcode: {dns.opcode.to_text(message.opcode())}, status: {status}, id: {message.id}"
        numbers = ", ".join(f"{title}: {sum(map(len, section)) or len(section)}" for title, section in counts)
        yield f";; flags: {flags}; {numbers}, ADDITIONAL: {additional}"
        yield ""
        if message.edns >= 0:
            yield ";; OPT PSEUDOSECTION:"
            yield f"; EDNS: version: {message.edns}, flags:; udp: {message.payload}"
            yield from (f"; {option.to_text()}" for option in message.options)
    for part, title, sets in (
        ("question", "QUESTION", message.question),
        ("answer", "ANSWER", message.answer),
        ("authority", "AUTHORITY", message.authority),
        ("additional", "ADDITIONAL", message.additional),
    ):
        if shown[part] and sets:
            if shown["comments"]:
                yield f";; {title} SECTION:"
            yield from _of_question(sets) if part == "question" else _of_records(sets)
            if shown["comments"]:
                yield ""
    if shown["stats"]:
        yield f";; Query time: {answer.seconds * 1000:.0f} msec"
        yield f";; SERVER: {answer.server}#{options.port}({answer.server}) ({'TCP' if answer.tcp else 'UDP'})"
        yield f";; MSG SIZE  rcvd: {answer.size}"


def _of_question(sets: Sequence[dns.rrset.RRset]) -> Iterator[str]:
    for each in sets:
        yield f";{each.name}\t\t{dns.rdataclass.to_text(each.rdclass)}\t{dns.rdatatype.to_text(each.rdtype)}"


def _of_records(sets: Sequence[dns.rrset.RRset]) -> Iterator[str]:
    for each in sets:
        for rdata in each:
            kind, klass = dns.rdatatype.to_text(each.rdtype), dns.rdataclass.to_text(each.rdclass)
            yield f"{each.name}\t{each.ttl}\t{klass}\t{kind}\t{rdata.to_text()}"
