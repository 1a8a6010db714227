"""Compares the prediction with the observation: at which hop they differ. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from netlab.net.addresses import host_port
from netlab.trace.model import Hop, Path
from netlab.trace.state import ANY_PORT

OF_STATE = ("route ", "FDB ")
"""How decisions begin that are not made by rules: the kernel does not report these, so they come from the state."""


def nearest(predicted: Sequence[Path], observed: Path) -> Path | None:
    """The predicted path with the fewest differences from the observed one, and of those the latest."""

    def distance(path: Path) -> tuple[int, int]:
        pairs = zip(path.hops, observed.hops, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: not _differs(*pair), pairs))
        return len(list(differences(path, observed))), -same

    return min(predicted, key=distance, default=None)


def differences(predicted: Path, observed: Path) -> Iterator[str]:
    """Where and how the observed path differs from the predicted one; empty if it does not.

    A packet that leaves by loopback comes in there again: a tap shows it once.
    """
    yield from _along("hop", predicted.hops, observed.hops)
    yield from _along("hop of the reply", predicted.reply, observed.reply)
    was, ought = observed.verdict, predicted.verdict
    if was.outcome != ought.outcome or (was.outcome != "delivered" and was.node != ought.node):
        yield (
            f"it was predicted to be {ought.outcome} ({ought.node}: {ought.reason}), "
            f"and was {was.outcome} ({was.node}: {was.reason})"
        )


def _along(what: str, predicted: Sequence[Hop], observed: Sequence[Hop]) -> Iterator[str]:
    ought = [hop for hop in predicted if (hop.kind, hop.direction) != ("loopback", "out")]
    for number, (expected, seen) in enumerate(itertools.zip_longest(ought, observed), start=1):
        if expected is None:
            assert seen is not None
            yield f"{what} {number}: observed {_place(seen)}, where nothing was predicted"
        elif seen is None:
            yield f"{what} {number}: predicted {_place(expected)}, where nothing was observed"
        elif how := _differs(expected, seen):
            yield f"{what} {number}: {how}"
        else:
            continue
        # After the first difference nothing need be the same.
        return


def _differs(expected: Hop, seen: Hop) -> str:
    """How two hops differ; empty if they agree."""
    if _place(expected) != _place(seen):
        return f"predicted {_place(expected)}, observed {_place(seen)}"
    ports = (expected.sport in (ANY_PORT, seen.sport), expected.dport in (ANY_PORT, seen.dport))
    same = (expected.src, expected.dst, expected.protocol) == (seen.src, seen.dst, seen.protocol) and all(ports)
    if not same:
        rules = [each for each in seen.by if not each.startswith(OF_STATE)]
        by = f", by {'; '.join(rules)}" if rules else ""
        return f"at {_place(seen)}: predicted {_ends(expected)}, observed {_ends(seen)}{by}"
    if expected.encapsulation != seen.encapsulation:
        ought, was = expected.encapsulation or "no tunnel", seen.encapsulation or "no tunnel"
        return f"at {_place(seen)}: predicted {ought}, observed {was}"
    if expected.ttl and expected.ttl != seen.ttl:
        return f"at {_place(seen)}: predicted TTL {expected.ttl}, observed {seen.ttl}"
    return ""


def _place(hop: Hop) -> str:
    return f"{hop.owner} {hop.interface} {hop.direction}"


def _ends(hop: Hop) -> str:
    return f"{hop.protocol} {_end(hop.src, hop.sport)} > {_end(hop.dst, hop.dport)}"


def _end(address: str, port: int) -> str:
    return host_port(address, port or "*")
