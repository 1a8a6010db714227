"""The program of the Deployment `coredns`: `/coredns -conf FILE`, with the flags and the behaviour of CoreDNS.

A built-in program: the container is a fork of a machine's pid 1, which loads nothing of what this needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

_DEFAULT = "Corefile"
_USAGE = "usage: coredns [-conf FILE]"


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Serve until told to end; returns the exit status."""
    path, rest = _DEFAULT, list(argv[1:])
    while rest:
        flag, _, value = rest.pop(0).removeprefix("-").removeprefix("-").partition("=")
        if flag != "conf" or not (value or rest):
            print(_USAGE, file=sys.stderr)
            return 1
        path = value or rest.pop(0)
    # pid 1 keeps TLS from being loaded, which few containers need.
    if sys.modules.get("ssl", ...) is None:
        del sys.modules["ssl"]
    import uvloop

    from netlab.dns import serving

    return uvloop.run(serving.serve(path, env))
