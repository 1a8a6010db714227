"""Why the kernel threw packets away, by its counters."""

from __future__ import annotations

import pytest

from netlab.trace.counters import read, reasons


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("TcpExt IPReversePathFilter", "rp_filter: "),
        ("Ip OutNoRoutes", "there is no route"),
        ("Ip6InTooBigErrors", "it is larger than the MTU"),
        ("vxlan0 dropped", "interface vxlan0 dropped it"),
    ],
)
def test_what_has_risen_is_a_reason(name: str, reason: str) -> None:
    assert not list(reasons({name: 3}, {name: 3}))
    assert next(reasons({name: 3, "Ip InReceives": 1}, {name: 4, "Ip InReceives": 2})).startswith(reason)
    assert next(reasons({}, {name: 1})).startswith(reason)


def test_this_kernel_has_the_counters_that_are_looked_at() -> None:
    found = read()
    assert {
        "TcpExt IPReversePathFilter",
        "Ip OutNoRoutes",
        "Ip FragFails",
        "IpExt InNoRoutes",
        "lo dropped",
    } <= found.keys()
