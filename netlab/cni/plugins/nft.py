"""The nft program, for what does not depend on the containers: chains, rules, sets without their elements."""

from __future__ import annotations

import os
import subprocess

from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEM = "/usr/sbin:/sbin:/usr/bin:/bin"
_TIMEOUT = 60.0


def nft(environment: Mapping[str, str], *arguments: str, text: str = "") -> str:
    """What nft prints in the current network namespace; `text` is its standard input, `environment` the caller's.

    Raises `CniError` if the program is missing or fails.
    """
    # A runtime's PATH may lack the administrator's programs.
    path = os.pathsep.join(filter(None, (environment.get("PATH"), _SYSTEM)))
    try:
        done = subprocess.run(
            ["nft", *arguments],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT,
            env={"PATH": path, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise CniError(errors.IO_FAILURE, f"nft: no such program in {path}; install nftables") from None
    except subprocess.TimeoutExpired:
        raise CniError(errors.TRY_AGAIN, f"nft: no answer within {_TIMEOUT:g} s; killed") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:500]
        raise CniError(errors.KERNEL_REFUSED, f"nft {' '.join(arguments)}: exit status {done.returncode}", said)
    return done.stdout


def difference(environment: Mapping[str, str], table: str, text: str) -> str:
    """The first difference between a table (`inet NAME`) and what `text` makes, in words; empty if there is none.

    Elements do not count. The expected table is made in a network namespace of its own and listed there, so that both
    lists are written the way this nft writes. Raises `CniError`, `OSError`.
    """
    from netlab.net.namespaces import thrown_away

    if f"table {table}" not in nft(environment, "list", "tables").splitlines():
        return "missing"
    found = _blocks(nft(environment, "--terse", "list", "table", *table.split()))
    with thrown_away():
        nft(environment, "-f", "-", text=text)
        wanted = _blocks(nft(environment, "--terse", "list", "table", *table.split()))
    for name, lines in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if missing := [line for line in lines if line not in found[name]]:
            return f"{name}: {missing[0]!r} is missing"
        if found[name] != lines:
            return f"{name}: it has extra rules, or rules in another order"
    return ""


def _blocks(listing: str) -> dict[str, list[str]]:
    """The lines of each chain and set of a listed table."""
    blocks: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines()[1:]:
        if line.startswith("\t\t"):
            blocks[name].append(line.strip())
        elif line.endswith("{"):
            name = line[:-1].strip()
            blocks[name] = []
    return blocks
