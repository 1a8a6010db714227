"""The connection on top of a scenario's page."""

import pytest

from netlab.capture.correlate import Journey
from netlab.capture.headers import ACK, ICMP, SYN, Headers
from netlab.capture.taps import Tap
from netlab.net.addresses import packed
from netlab.report import picture
from netlab.report.captured import Captured
from netlab.report.messages import messages
from netlab.report.overview import Overview, most_telling, overviews
from tests.unit.report.dom import parsed
from tests.unit.report.frames import (
    CLIENT,
    FROM_POD,
    FROM_SERVICE,
    MILLISECOND,
    NAMES,
    TO_POD,
    TO_SERVICE,
    WEB,
    journey,
    tap,
    tcp,
)

THERE = journey((CLIENT, TO_SERVICE), (WEB, TO_POD))
BACK = journey((WEB, FROM_POD), (CLIENT, FROM_SERVICE), begin=MILLISECOND, reply=True)
MACHINES = {"192.0.2.1": "node-1", "192.0.2.2": "node-2", "10.244.1.0": "node-1", "10.244.1.1": "node-1"}


def found(journeys: list[Journey], *taps: Tap) -> list[Overview]:
    names = NAMES | MACHINES
    captured = Captured(list(taps), journeys, [])
    return list(overviews(captured, messages(journeys, names, taps), names))


def places(overview: Overview, *, back: bool = False) -> list[str]:
    hops = overview.picture.back if back else overview.picture.there
    return [f"{hop.owner} {hop.interface}" for hop in hops]


def test_the_node_that_translates_and_the_fabric_are_drawn_though_unwatched() -> None:
    (one,) = found([THERE, BACK], CLIENT, WEB)
    way = ["client eth0", "node-1 netfilter", "fabric node-1", "fabric node-2", "web eth0"]
    assert places(one) == way
    assert places(one, back=True) == way[::-1]
    assert one.picture.unwatched == {("node-1", "netfilter"), ("fabric", "node-1"), ("fabric", "node-2")}
    assert [list(map(str, hop.changed)) for hop in one.picture.there][:2] == [
        [],
        ["DNAT 10.96.0.10:80 -> 10.244.2.3:8080"],
    ]
    assert list(map(str, one.picture.back[3].changed)) == ["un-DNAT 10.244.2.3:8080 -> 10.96.0.10:80"]
    assert (one.packet.what, one.answer and one.answer.what) == ("TCP SYN", "TCP SYN ACK")
    drawn = parsed(picture.draw(one.picture, linked=False))
    assert [chip.text for chip in drawn.all("text", "kind")].count("not watched") == 3
    assert drawn.all("a") == []


def test_an_answer_is_from_where_the_packet_went_and_not_from_another_endpoint() -> None:
    other = journey(
        (WEB, FROM_POD._replace(source=packed("10.244.2.9"))), (CLIENT, FROM_SERVICE), begin=MILLISECOND, reply=True
    )  # fmt: skip
    (one,) = found([THERE, other], CLIENT, WEB)
    assert one.answer is None


def test_a_lost_packet_has_a_cross_and_the_way_that_it_should_have_gone() -> None:
    healthy, lost = found([THERE, BACK, journey((CLIENT, TO_POD), begin=2 * MILLISECOND)], CLIENT, WEB)
    assert places(lost) == ["client eth0"]
    assert lost.picture.lost == "there"
    assert [hop.interface for hop in lost.picture.expected] == ["eth0", "node-1", "node-2", "eth0"]
    assert most_telling([healthy, lost]) is healthy
    plain = journey((CLIENT, TO_POD), (WEB, TO_POD), begin=3 * MILLISECOND)
    assert most_telling(found([journey((CLIENT, TO_POD)), plain], CLIENT, WEB)) is not None
    assert places(most_telling(found([journey((CLIENT, TO_POD)), plain], CLIENT, WEB)) or healthy) == ["client eth0"]


def test_an_error_is_drawn_from_the_node_that_sent_it() -> None:
    refusal = Headers(
        4, ICMP, packed("10.244.1.1"), 0, packed("10.244.1.2"), 0, 64, 88, icmp_type=3, icmp_code=3, quoted=TO_SERVICE
    )
    telling = journey((CLIENT, refusal), begin=MILLISECOND, reply=True)
    telling = telling._replace(sightings=(telling.sightings[0]._replace(outgoing=False),))
    (one,) = found([journey((CLIENT, TO_SERVICE)), telling], CLIENT)
    assert places(one) == ["client eth0", "node-1 IP stack"]
    assert places(one, back=True) == ["node-1 IP stack", "client eth0"]
    assert one.answer is not None
    assert one.answer.what == "ICMP port unreachable"


@pytest.mark.parametrize("client", ["192.0.2.253", "10.244.1.0"])
def test_from_outside_the_dialled_node_translates(client: str) -> None:
    world = tap("outside", machine="outside", kind="underlay")
    there = journey((world, tcp("192.0.2.253", 1, "192.0.2.1", 30080)), (WEB, tcp(client, 1, "10.244.2.3", 80)))
    back = journey(
        (WEB, tcp("10.244.2.3", 80, client, 1, SYN | ACK)),
        (world, tcp("192.0.2.1", 30080, "192.0.2.253", 1, SYN | ACK)),
        begin=MILLISECOND, reply=True,
    )  # fmt: skip
    (one,) = found([there, back], world, WEB)
    way = ["outside eth0", "fabric outside", "fabric node-1", "node-1 netfilter", "fabric node-1", "fabric node-2"]
    assert places(one) == [*way, "web eth0"]
    assert places(one, back=True) == ["web eth0", *way[::-1]]


def test_what_asks_nothing_is_no_overview() -> None:
    assert found([BACK], CLIENT, WEB) == []
    assert most_telling([]) is None
