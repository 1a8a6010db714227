"""Servers of HAProxy's backends: places for endpoints, which come and go without a reload (`set server`).

The places of a backend are fixed when HAProxy reads its configuration, so there are more than endpoints.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from netlab.ingress.endpoints import Endpoint

Slots = tuple[Endpoint | None, ...]
"""The endpoint of each server of a backend, `s1` first; None: it is free."""

_LEAST = 4


def fresh(wanted: Collection[Endpoint]) -> Slots:
    """Places for these and for as many more."""
    endpoints = sorted(wanted)
    size = max(_LEAST, 2 << (len(endpoints) - 1).bit_length()) if endpoints else _LEAST
    return (*endpoints, *(None for _ in range(size - len(endpoints))))


def moved(slots: Slots, wanted: Collection[Endpoint]) -> Slots | None:
    """The same places with these endpoints, each that stays at its own; None if there are too few.

    A place that becomes free now is not taken now: there would be a moment without either endpoint.
    """
    kept = [each if each in wanted else None for each in slots]
    new = sorted(set(wanted) - set(kept))
    free = [place for place, each in enumerate(slots) if each is None]
    if len(new) > len(free):
        return None
    for place, endpoint in zip(free, new, strict=False):
        kept[place] = endpoint
    return tuple(kept)


def commands(backend: str, old: Slots, new: Slots) -> Iterator[str]:
    """What to tell HAProxy, so that its servers are those of `new`. Requests that are under way go on.

    First who comes, then who goes: meanwhile requests must find somebody.
    """
    changed = [place for place, (was, now) in enumerate(zip(old, new, strict=True)) if was != now]
    for place in changed:
        if (endpoint := new[place]) is not None:
            yield f"set server {backend}/s{place + 1} addr {endpoint.address} port {endpoint.port}"
            yield f"set server {backend}/s{place + 1} state ready"
    for place in changed:
        if new[place] is None:
            yield f"set server {backend}/s{place + 1} state maint"


def line(place: int, endpoint: Endpoint | None) -> str:
    """A server's line in the configuration."""
    if endpoint is None:
        return f"server s{place} 0.0.0.0:1 disabled"
    version = ipaddress.ip_address(endpoint.address).version
    return f"server s{place} ipv{version}@{endpoint.address}:{endpoint.port}"
