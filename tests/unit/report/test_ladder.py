"""Ladder diagrams: who sends what to whom, and where everything is drawn."""

import dataclasses

from netlab.capture.headers import ACK, ICMP, RST, Headers
from netlab.capture.taps import Tap
from netlab.net.addresses import packed
from netlab.report import drawing, ladder
from netlab.report.messages import Lifeline, Message, messages
from tests.unit.report.dom import assert_sound, parsed
from tests.unit.report.frames import (
    CLIENT,
    FROM_POD,
    FROM_SERVICE,
    MILLISECOND,
    NAMES,
    NODE,
    TO_POD,
    TO_SERVICE,
    WEB,
    journey,
    tap,
    tcp,
)

THERE = journey((CLIENT, TO_SERVICE), (NODE, TO_SERVICE), (WEB, TO_POD))
BACK = journey((WEB, FROM_POD), (CLIENT, FROM_SERVICE), begin=MILLISECOND, reply=True)


def names(message: Message) -> list[str]:
    return [stop.lifeline.name for stop in message.stops]


def test_a_message_tells_who_to_whom_and_what_was_done() -> None:
    there, back = messages([THERE, BACK], NAMES)
    assert (there.what, there.who, there.tone) == ("TCP SYN", "client:20000 → web (Service):80", "request")
    assert names(there) == ["client", "node-1", "web"]
    assert [stop.after for stop in there.stops] == [0, 10_000, 20_000]
    assert there.stops[2].changes == ("DNAT 10.96.0.10:80 -> 10.244.2.3:8080", "TTL 64 -> 62")
    assert (back.what, back.who, back.tone) == ("TCP SYN ACK", "web:8080 → client:20000", "reply")
    assert there.unseen is back.unseen is None


def test_who_is_not_watched_has_a_lifeline_all_the_same() -> None:
    (message,) = messages([journey((CLIENT, tcp("10.244.1.2", 1, "192.0.2.253", 80)))], NAMES)
    assert [stop.lifeline for stop in message.stops] == [
        Lifeline("client", "eth0 on node-1", watched=True),
        Lifeline("outside", "not watched", watched=False),
    ]
    # Nobody knows the other's name.
    arriving = tcp("203.0.113.9", 1, "10.244.1.2", 80)
    (message,) = messages([journey((CLIENT, arriving))._replace(sightings=(_incoming(arriving),))], NAMES)
    assert names(message) == ["203.0.113.9", "client"]


def _incoming(headers: Headers):  # type: ignore[no-untyped-def]
    return journey((CLIENT, headers)).sightings[0]._replace(outgoing=False)


def test_a_packet_that_does_not_come_to_a_watched_place_is_unseen_there() -> None:
    lost = journey((CLIENT, TO_POD), begin=2 * MILLISECOND)
    message = messages([THERE, lost], NAMES)[1]
    assert names(message) == ["client"]
    assert message.unseen is not None
    assert message.unseen.name == "web"


def test_a_place_that_was_watched_and_saw_nothing_is_one_that_did_not_see_it() -> None:
    alone = journey((CLIENT, TO_POD))
    (message,) = messages([alone], {"10.244.2.3": "web"}, [CLIENT, WEB])
    assert message.unseen == Lifeline("web", "eth0 on node-2", watched=True)
    assert [each.name for each in ladder.order([message])] == ["client", "web"]
    tree = assert_sound(ladder.ladder([message], "x", "x"))
    assert [text.text for text in tree.all("tspan", "unseen")] == ["  ✗ not seen at web"]


def test_what_a_node_sends_by_another_interface_comes_from_elsewhere_on_it() -> None:
    eth0 = tap("node-1", kind="underlay")
    telling = journey((CLIENT, tcp("10.244.1.1", 1, "10.244.1.2", 2)))
    telling = telling._replace(sightings=(telling.sightings[0]._replace(outgoing=False),))
    (message,) = messages([telling], {"10.244.1.1": "node-1"}, [eth0])
    assert [(stop.lifeline.name, stop.lifeline.watched) for stop in message.stops] == [
        ("node-1", False),
        ("client", True),
    ]


def test_errors_and_resets_stand_out() -> None:
    reset = tcp("10.244.2.3", 8080, "10.244.1.2", 20000, RST | ACK)
    about = Headers(
        4, ICMP, packed("192.0.2.1"), 0, packed("10.244.1.2"), 0, 64, 88, icmp_type=3, icmp_code=4, mtu=1400
    )
    quoting = about._replace(quoted=TO_POD)
    found = messages([journey((WEB, reset)), journey((NODE, quoting))], NAMES)
    assert [(message.what, message.tone) for message in found] == [
        ("TCP RST ACK", "bad"),
        ("ICMP packet too big for MTU 1400", "bad"),
    ]


def test_loopback_is_the_pods_own_and_multicast_goes_to_nobody() -> None:
    lo = tap("lesson/pair", "lo", kind="loopback")
    inside = tcp("::1", 1, "::1", 8080)
    group = tcp("fe80::1", 0, "ff02::16", 0)
    found = messages([journey((lo, inside)), journey((lo, group))], {})
    assert [names(message) for message in found] == [["pair"], ["fe80::1", "pair"]]


def test_the_order_of_lifelines_is_that_of_the_way() -> None:
    other = tap("lesson/zoo", machine="node-2")
    through = journey((CLIENT, TO_SERVICE), (NODE, TO_SERVICE), (other, TO_POD), begin=MILLISECOND)
    found = messages([journey((CLIENT, TO_SERVICE), (WEB, TO_POD)), through], {"10.96.0.10": "web (Service)"})
    assert [each.name for each in ladder.order(found)] == ["client", "node-1", "zoo", "node-1", "web"]


def test_who_says_that_something_is_wrong_is_beside_the_one_who_is_told() -> None:
    about = Headers(4, ICMP, packed("192.0.2.1"), 0, packed("10.244.1.2"), 0, 64, 88, icmp_type=3, quoted=TO_POD)
    telling = journey((CLIENT, about), begin=MILLISECOND)
    telling = telling._replace(sightings=(telling.sightings[0]._replace(outgoing=False),))
    found = messages([journey((CLIENT, TO_SERVICE), (WEB, TO_POD)), telling], {"192.0.2.1": "node-1"})
    assert [each.name for each in ladder.order(found)] == ["client", "node-1", "web"]


def test_a_way_that_turns_round_has_a_leg_for_each_direction() -> None:
    hairpin = journey((CLIENT, TO_SERVICE), (NODE, TO_SERVICE), (CLIENT, TO_SERVICE))
    (message,) = messages([hairpin], {"10.96.0.10": "client"})
    parts = ladder.legs(message.stops, ladder.order([message]))
    assert [[stop.lifeline.name for stop in leg.stops] for leg in parts] == [["client", "node-1"], ["node-1", "client"]]


def test_every_text_has_room() -> None:
    long = [dataclasses.replace(place, owner=f"lesson/{place.owner}-{'x' * 40}") for place in (CLIENT, WEB)]
    there = journey(
        (long[0], tcp("fd00:10:244::2", 40000, "fd00:10:96::a", 80)), (long[1], tcp("fd00::1", 1, "fd00::2", 2))
    )
    found = messages([there], {})
    laid = ladder.plan(found)
    assert laid.size.x > max(laid.columns.values())
    assert laid.size.x >= 66 + drawing.width_of(f"{found[0].what} {found[0].who}", 12.5)
    client, node, web = laid.columns.values()
    assert web - node >= max(drawing.width_of(change, 11) for change in found[0].stops[2].changes) / 2
    assert node > client


def test_the_node_that_translates_has_a_lifeline_though_nobody_watched_there() -> None:
    there, back = messages([journey((CLIENT, TO_SERVICE), (WEB, TO_POD)), BACK], NAMES)
    node = Lifeline("node-1", "not watched", watched=False)
    assert [(stop.lifeline.name, stop.translates) for stop in there.stops] == [
        ("client", False), ("node-1", True), ("web", False),
    ]  # fmt: skip
    assert [stop.lifeline for stop in there.stops][1] == [stop.lifeline for stop in back.stops][1] == node
    drawn = assert_sound(ladder.ladder([there, back], "x", "x"))
    assert len(drawn.all("circle", "deed-dot")) == 2
    assert drawn.all("path", "unwatched") == drawn.all("path", "lifeline unwatched")


def outside_in(at: Tap, client: str) -> Message:
    """From outside to port 30080 of node-2, which lets a pod of node-1 believe that `client` asks."""
    world = tap("outside", machine="outside", kind="underlay")
    dialled, arrived = tcp("192.0.2.253", 1, "192.0.2.2", 30080), tcp(client, 2, "10.244.1.2", 80)
    own = {"192.0.2.253": "outside", "192.0.2.2": "node-2", "10.244.2.0": "node-2"}
    (message,) = messages([journey((world, dialled), (at, arrived))], own)
    return message


def test_from_outside_it_is_the_node_that_was_dialled_that_translates() -> None:
    for client in ("10.244.2.0", "192.0.2.253"):
        assert names(outside_in(CLIENT, client)) == ["outside", "node-2", "client"]
    seen = outside_in(tap("node-2", kind="underlay"), "192.0.2.253")
    assert not any(stop.translates for stop in seen.stops)


def test_a_translation_is_said_once_a_connection() -> None:
    again = journey((CLIENT, TO_SERVICE), (NODE, TO_SERVICE), (WEB, TO_POD), begin=2 * MILLISECOND)
    other = journey(
        (CLIENT, TO_SERVICE._replace(sport=7)), (WEB, TO_POD._replace(sport=7, destination=packed("10.244.2.4"))),
        begin=3 * MILLISECOND,
    )  # fmt: skip
    found = ladder.said_once(messages([THERE, BACK, again, other], NAMES))
    assert [[change.partition(" ")[0] for stop in message.stops for change in stop.changes] for message in found] == [
        ["DNAT", "TTL"], ["un-DNAT"], [], ["DNAT"],
    ]  # fmt: skip


def test_a_silence_is_told_and_rows_follow_one_another() -> None:
    found = messages([journey((CLIENT, TO_SERVICE), begin=step * 1_000_000_000) for step in range(3)], NAMES)
    laid = ladder.plan(found)
    assert [row.silence for row in laid.rows] == [0, 1_000_000_000, 1_000_000_000]
    for row, after in zip(laid.rows, laid.rows[1:], strict=False):
        assert row.y + row.height < after.y
    assert "1.00 s later" in parsed(ladder.ladder(found, "x", "x")).text


def test_a_drawing_has_an_arrow_for_each_packet_and_no_more_than_so_many() -> None:
    found = messages([THERE, BACK] * 100, NAMES)
    tree = assert_sound(ladder.ladder(found, 'a "title"', "one"))
    assert tree.one("svg").attributes["role"] == "img"
    assert tree.all("title")[0].text == 'a "title"'
    assert len(tree.all("text", "who")) == ladder.MOST
    assert len(tree.all("path", "arrow request")) == ladder.MOST
    assert tree.all("text", "deed")[0].text == "DNAT 10.96.0.10:80 → 10.244.2.3:8080"


def test_hostile_names_stay_names() -> None:
    name = "</svg><script>alert(1)</script>"
    hostile = journey((tap(f"lesson/{name}"), TO_SERVICE), (tap("x", name, kind="veth"), TO_SERVICE))
    tree = assert_sound(ladder.ladder(messages([hostile], {"10.96.0.10": name}), name, "one"))
    assert {node.tag for node in tree} <= {
        "svg",
        "g",
        "defs",
        "marker",
        "title",
        "path",
        "rect",
        "circle",
        "text",
        "tspan",
    }
