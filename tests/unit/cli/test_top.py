"""The rows of `netlab top`: what comes first, how amounts are written, and which connections are one."""

from __future__ import annotations

import pytest

from netlab.api.cluster import Cluster
from netlab.cli import top
from netlab.lab.names import Names
from netlab.lab.top import Flow, Row, flows, preferred
from netlab.net.addresses import packed
from netlab.net.conntrack.entries import Entry

CLIENT, SERVICE, SERVER, NODE = map(packed, ("10.244.1.2", "10.96.0.7", "10.244.2.3", "192.0.2.1"))


@pytest.mark.parametrize(
    ("key", "expected"),
    [(None, ["b", "a", "c"]), ("memory", ["c", "a", "b"]), ("received", ["a", "b", "c"]), ("name", ["a", "b", "c"])],
)
def test_the_most_comes_first_and_what_is_not_known_last(key: str | None, expected: list[str]) -> None:
    rows = [
        Row(("shop", "c", "node-1"), None, 900, None, None, 1),
        Row(("shop", "a", "node-1"), 0.5, 500, 7.0, 1.0, 1),
        Row(("shop", "b", "node-2"), 1.5, 100, 3.0, 9.0, 1),
    ]
    assert [each.names[1] for each in top.sorted_by(rows, "pods", key)] == expected


@pytest.mark.parametrize(
    ("amount", "written"),
    [(None, "-"), (0, "0"), (9999, "9999"), (10_000, "10Ki"), (70 * 1024**2, "70Mi"), (5e14, "465661Gi")],
)
def test_amounts_have_four_digits(amount: float | None, written: str) -> None:
    assert top._size(amount) == written


def connection(port: int, dialled: bytes, answer: tuple[bytes, int] = (CLIENT, 0), size: int | None = None) -> Entry:
    back = (answer[0], answer[1] or port)
    return Entry(6, (CLIENT, port, dialled, 80), (SERVER, 8080, *back), size and 2, size)


def test_a_connection_that_two_nodes_track_is_one() -> None:
    """The client's node translates it; the server's sees it on its way to the pod, whichever is read first."""
    translated = connection(4000, SERVICE)
    behind = Entry(6, (CLIENT, 4000, SERVER, 8080), (SERVER, 8080, CLIENT, 4000))
    for order in ([translated, behind], [behind, translated]):
        found: dict[tuple[int, bytes, int, bytes, int], Entry] = {}
        for entry in order:
            found |= preferred(found, [entry])
        assert list(found.values()) == [translated]


def test_connections_of_one_client_to_one_server_are_told_together() -> None:
    before = preferred({}, [connection(4000, SERVICE, size=1000)])
    now = preferred({}, [connection(4000, SERVICE, size=4000), connection(4001, SERVICE, size=500)])
    names = Names(Cluster([]))
    told = flows(now, before, 2.0, names)
    assert told == [Flow("10.244.1.2", "10.96.0.7:80", "10.244.2.3:8080", "TCP", 2, 1.0, 1750.0)]
    (first,) = flows(now, {}, None, names)
    assert (first.packets, first.bytes) == (None, None)
    (uncounted,) = flows(preferred({}, [connection(4000, SERVICE)]), {}, 2.0, names)
    assert uncounted.bytes is None
