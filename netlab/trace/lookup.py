"""What a pod's resolver does with a name before any packet goes to whom it names: each question, and who answered.

The questions are real ones, sent from the pod's own network by its own /etc/resolv.conf, in the order in which the C
library tries them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import dns.edns
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from netlab.dns import resolver
from netlab.errors import UnavailableError
from netlab.lab.lab import Lab
from netlab.lab.places import resolve
from netlab.trace.model import Lookup, NoAddressError, Query

_FILE = "/etc/resolv.conf"
_PATIENCE = 2.0
"""Seconds for a server's answer; the C library waits five."""
_READING = 30.0
"""Seconds for a container to show its file."""
_TYPES = ("A", "AAAA")

Ask = Callable[[str, bytes], bytes]
"""Sends a question to a server from the pod's network, and gives the answer. Raises `OSError`."""


def look_up(lab: Lab, source: str, namespace: str, name: str, ask: Ask) -> Lookup:
    """Ask for a name as the source's C library would.

    Raises `NoAddressError` for a name that has no address, `UnavailableError` where there is no server to ask, and what
    `resolve` raises.
    """
    conf = resolver.parse(_resolv_conf(lab, source, namespace))
    if not conf.servers:
        raise UnavailableError(f"{source} has no name server in its {_FILE}; see dnsPolicy, and `netlab up --dns`")
    queries: list[Query] = []
    for candidate in conf.candidates(name):
        found = [_asked(candidate, kind, conf.servers, ask) for kind in _TYPES]
        queries += found
        if any(query.answers for query in found):
            break
    lookup = Lookup(name, list(conf.searches), conf.ndots, queries)
    if not lookup.addresses:
        raise NoAddressError(lookup)
    return lookup


def _resolv_conf(lab: Lab, source: str, namespace: str) -> str:
    place = resolve(lab, source, namespace, None)
    assert place.container_id is not None, "a pod's"
    with lab.runtime(place.machine) as runtime:
        return runtime.exec(place.container_id, ["cat", _FILE], _READING).output.decode(errors="replace")


def _asked(name: str, kind: str, servers: tuple[str, ...], ask: Ask) -> Query:
    """One question; the next server is asked where one does not answer."""
    options: list[dns.edns.Option] = [dns.edns.NSIDOption(b"")]
    question = dns.message.make_query(name, kind, use_edns=0, payload=1232, options=options)
    status = ""
    for server in servers:
        began = time.monotonic_ns()
        try:
            answer = dns.message.from_wire(ask(server, question.to_wire()), ignore_trailing=True)
        except TimeoutError:
            status = "no answer"
        except OSError as error:
            status = str(error.strerror or error)
        except dns.exception.DNSException:
            status = "an answer that cannot be read"
        else:
            took = time.monotonic_ns() - began
            code = dns.rcode.to_text(answer.rcode())
            return Query(name, kind, server, code, list(_data(answer)), _server_of(answer), took)
    return Query(name, kind, servers[-1], status)


def _data(answer: dns.message.Message) -> Iterator[str]:
    for each in answer.answer:
        if dns.rdatatype.to_text(each.rdtype) in (*_TYPES, "CNAME"):
            yield from (rdata.to_text() for rdata in each)


def _server_of(answer: dns.message.Message) -> str:
    for option in answer.options:
        if isinstance(option, dns.edns.NSIDOption):
            return option.nsid.decode(errors="replace")
    return ""
