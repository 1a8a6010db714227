"""The program of the Deployment `ingress`: `/ingress SERVICE`, the Service (NAMESPACE/NAME) by which it is reached.

A built-in program: the container is a fork of a machine's pid 1, which loads nothing of what this needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Serve until told to end; returns the exit status."""
    if len(argv) != 2 or "/" not in argv[1]:
        print("usage: ingress NAMESPACE/SERVICE", file=sys.stderr)
        return 1
    # pid 1 keeps TLS from being loaded, which few containers need.
    if sys.modules.get("ssl", ...) is None:
        del sys.modules["ssl"]
    import uvloop

    from netlab.ingress import serving

    return uvloop.run(serving.serve(argv[1], env))
