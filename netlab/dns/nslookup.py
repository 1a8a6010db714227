"""nslookup, where the host has none: the addresses of a name, or the name of an address, by the search domains.

nslookup NAME|ADDRESS [SERVER]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

import dns.exception
import dns.rcode
import dns.rdatatype

from netlab.dns import dig
from netlab.dns.names import reverse

_WRONG = 1


def main() -> int:
    """Ask, and print; the exit status, which is 1 for a name that is not there."""
    if not 2 <= len(sys.argv) <= 3:
        print("usage: nslookup NAME|ADDRESS [SERVER]", file=sys.stderr)
        return _WRONG
    name, *server = sys.argv[1:]
    try:
        conf = dig.own_conf()
        return _looked_up(name, conf.candidates(name), server or conf.servers or ["127.0.0.1"])
    except (OSError, dns.exception.DNSException) as error:
        print(f"nslookup: {error}", file=sys.stderr)
        return _WRONG


def _looked_up(name: str, candidates: Sequence[str], servers: Sequence[str]) -> int:
    kinds: tuple[str, ...] = ("A", "AAAA")
    with contextlib.suppress(ValueError):
        candidates, kinds = [f"{reverse(name)}."], ("PTR",)
    status, told = "", False
    for candidate in candidates:
        found = False
        for kind in kinds:
            answer = dig.ask(dig.Options(type=kind), servers, candidate)
            if answer is None:
                print(f";; no servers could be reached ({', '.join(servers)})")
                return _WRONG
            if not told:
                print(f"Server:\t\t{answer.server}\nAddress:\t{answer.server}#53\n")
                told = True
            status = dns.rcode.to_text(answer.message.rcode())
            for each in answer.message.answer:
                for rdata in each:
                    found = True
                    print(_line(str(each.name).removesuffix("."), dns.rdatatype.to_text(each.rdtype), rdata.to_text()))
        if found:
            return 0
    print(f"** server can't find {name}: {status if status != 'NOERROR' else 'No answer'}")
    return _WRONG


def _line(name: str, kind: str, text: str) -> str:
    match kind:
        case "CNAME":
            return f"{name}\tcanonical name = {text}"
        case "PTR":
            return f"{name}\tname = {text}"
    return f"Name:\t{name}\nAddress: {text}"
