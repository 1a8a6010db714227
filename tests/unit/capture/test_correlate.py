"""Journeys through a model of two nodes whose truth is known."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.capture.changes import changes
from netlab.capture.correlate import SETTLED, Correlator, Journey, Sighting, Translation, journeys
from netlab.capture.headers import ACK, ICMP, ICMPV6, SYN, TCP, UDP, Carrier, Flow, Headers, swapped
from netlab.capture.taps import Kind, Tap
from netlab.net.addresses import packed

CLIENTS = [packed(f"10.244.1.{number}") for number in (2, 3)]
SERVERS = [packed(f"10.244.2.{number}") for number in (2, 3)]
SERVICE, NODE = packed("10.96.0.10"), packed("192.0.2.1")
TUNNEL = Carrier(1, NODE, packed("192.0.2.2"))
MILLISECOND = 1_000_000


def tap(machine: str, owner: str, interface: str, kind: Kind) -> Tap:
    return Tap(machine, owner, interface, kind)


class Place(NamedTuple):
    """Where on its way a packet is seen: how often it was routed before, in what, and in which translation."""

    tap: Tap
    outgoing: bool
    routed: int
    carried: bool
    state: int


def way(client: int, server: int, halfway: bool) -> list[Place]:
    """From a pod of node-1 to a pod of node-2: translated on node-1, between its bridge and its tunnel."""
    node, other = "node-1", "node-2"
    return [
        Place(tap(node, f"default/c{client}", "eth0", "pod"), True, 0, False, 0),
        Place(tap(node, node, f"vc{client}", "veth"), False, 0, False, 0),
        Place(tap(node, node, "cni0", "bridge"), False, 0, False, 1 if halfway else 0),
        Place(tap(node, node, "vxlan0", "vxlan"), True, 1, False, 2),
        Place(tap(node, node, "eth0", "underlay"), True, 1, True, 2),
        Place(tap(other, other, "eth0", "underlay"), False, 1, True, 2),
        Place(tap(other, other, "vxlan0", "vxlan"), False, 1, False, 2),
        Place(tap(other, other, "cni0", "bridge"), True, 2, False, 2),
        Place(tap(other, f"default/s{server}", "eth0", "pod"), False, 2, False, 2),
    ]


class Connection(NamedTuple):
    """A connection of the model; `number` is that of the port to which it is masqueraded."""

    protocol: int
    client: int
    server: int
    sport: int
    dnat: bool
    snat: bool
    number: int = 0

    @property
    def states(self) -> list[Flow]:
        """As it is sent, between the halves of its translation, and behind it."""
        server = (SERVERS[self.server], 8080)
        there = (SERVICE, 80) if self.dnat else server
        client = (CLIENTS[self.client], self.sport)
        behind = (NODE, 40000 + self.number) if self.snat else client
        return [(*client, *there), (*client, *server), (*behind, *server)]

    @property
    def translations(self) -> list[Translation]:
        first, _, last = self.states
        return [
            Translation("node-1", self.protocol, first, swapped(last)),
            Translation("node-2", self.protocol, last, swapped(last)),
        ]


class Packet(NamedTuple):
    """A packet that was sent: at what time, with which numbers, and which places saw it (None: all)."""

    connection: Connection
    reply: bool
    time: int
    numbers: dict[str, Any]
    places: frozenset[int] | None = None

    def seen(self, halfway: bool = False) -> list[Sighting]:
        path = way(self.connection.client, self.connection.server, halfway)
        if self.reply:
            routed = path[-1].routed
            path = [each._replace(outgoing=not each.outgoing, routed=routed - each.routed) for each in reversed(path)]
        found = []
        for index, place in enumerate(path):
            flow = self.connection.states[place.state]
            source, sport, destination, dport = swapped(flow) if self.reply else flow
            carrier = TUNNEL if place.carried else None
            headers = Headers(
                4, self.connection.protocol, source, sport, destination, dport, 64 - place.routed, 100, carrier=carrier
            )
            if self.places is None or index in self.places:
                headers = headers._replace(**self.numbers)
                found.append(Sighting(place.tap, self.time + index * 2000, place.outgoing, headers))
        return found


connections = st.lists(
    st.tuples(
        st.sampled_from([TCP, UDP]),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(20000, 20002),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: (each[0], each[1], each[3]),  # a client has a port once
).map(lambda drawn: [Connection(*each)._replace(number=number) for number, each in enumerate(drawn)])

PLACES = range(9)


def same(found: list[Journey]) -> set[tuple[frozenset[Sighting], Flow, bool]]:
    return {(frozenset(each.sightings), each.client, each.reply) for each in found}


def truth(packets: list[Packet], halfway: bool = False) -> set[tuple[frozenset[Sighting], Flow, bool]]:
    return {(frozenset(each.seen(halfway)), each.connection.states[0], each.reply) for each in packets}


def told(packets: list[Packet]) -> list[Translation]:
    return [each for packet in packets for each in packet.connection.translations]


def shuffled(seen: list[Sighting], seed: int, by: int) -> list[Sighting]:
    """In the order in which they are heard of, each up to so many nanoseconds late."""
    late = random.Random(seed)
    return sorted(seen, key=lambda each: each.time + late.randrange(by))


def live(seen: list[Sighting], translations: list[Translation], correlator: Correlator) -> list[Journey]:
    for each in translations:
        correlator.learn(each)
    found = []
    for sighting in seen:
        found += correlator.add(sighting)
    return found + correlator.flush()


@st.composite
def alike(draw: st.DrawFn) -> list[Packet]:
    """Packets of several connections that differ in nothing but their addresses and ports, at about the same time.

    Those of one connection and direction are far enough from each other; some taps miss some of them.
    """
    packets: list[Packet] = []
    for connection in draw(connections):
        for reply in draw(st.lists(st.booleans(), min_size=1, max_size=3)):
            time = (1 + len(packets)) * 2 * SETTLED if draw(st.booleans()) else draw(st.integers(0, 50_000))
            places = draw(st.none() | st.frozensets(st.sampled_from(PLACES), min_size=1))
            earlier = [each.time for each in packets if (each.connection, each.reply) == (connection, reply)]
            if not any(abs(time - each) < 2 * SETTLED - 1 for each in earlier):
                packets.append(Packet(connection, reply, time, {"payload": 64, "digest": 7}, places))
    return packets


@given(alike(), st.booleans(), st.integers(0, 1000))
def test_connections_tell_packets_apart_that_are_alike(packets: list[Packet], halfway: bool, seed: int) -> None:
    seen = [each for packet in packets for each in packet.seen(halfway)]
    assert same(journeys(seen, told(packets))) == truth(packets, halfway)
    late = shuffled(seen, seed, SETTLED // 4)
    assert same(live(late, told(packets), Correlator())) == truth(packets, halfway)


@given(alike())
def test_the_way_is_in_its_order(packets: list[Packet]) -> None:
    for journey in journeys([each for packet in packets for each in packet.seen()], told(packets)):
        assert list(journey.sightings) == sorted(journey.sightings, key=lambda each: each.time)


@given(st.data(), connections)
def test_retransmissions_are_packets_of_their_own(data: st.DataObject, made: list[Connection]) -> None:
    """They are dropped somewhere on their way, and sent again, the same to the last bit."""
    packets, time = [], 0
    for connection in made:
        for _ in range(data.draw(st.integers(1, 4))):
            time += data.draw(st.integers(MILLISECOND, SETTLED // 2))
            got_to = data.draw(st.integers(1, 9))
            packets.append(Packet(connection, False, time, {"seq": 5, "payload": 64}, frozenset(range(got_to))))
    seen = [each for packet in packets for each in packet.seen()]
    assert same(journeys(seen, told(packets))) == truth(packets)


@given(connections, st.integers(2, 20), st.integers(1, 30_000))
def test_packets_that_follow_each_other_closely_do_not_overtake(made: list[Connection], count: int, apart: int) -> None:
    packets = [Packet(each, False, number * apart, {"digest": 7}) for each in made for number in range(count)]
    seen = [each for packet in packets for each in packet.seen()]
    assert same(journeys(seen, told(packets))) == truth(packets)


@given(connections, st.data())
def test_tcp_needs_no_connection_tracking(made: list[Connection], data: st.DataObject) -> None:
    packets = []
    for connection in (each._replace(protocol=TCP) for each in made):
        isn, time = data.draw(st.integers(1, 2**32 - 1)), data.draw(st.integers(0, 50_000))
        sent = [(False, SYN, isn, 0), (True, SYN | ACK, 99, isn + 1), (False, ACK, isn + 1, 100), (True, ACK, 100, isn)]
        for number, (reply, flags, seq, ack) in enumerate(sent):
            numbers = {"flags": flags, "seq": seq, "ack": ack, "identification": isn % 1000}
            packets.append(Packet(connection, reply, time + number * MILLISECOND, numbers))
    unique = {(each.connection.client, each.connection.sport): each.connection for each in packets}
    packets = [each for each in packets if unique[(each.connection.client, each.connection.sport)] is each.connection]
    if len({(each.numbers["seq"], each.numbers["flags"]) for each in packets if not each.reply}) * 2 == len(packets):
        seen = [each for packet in packets for each in packet.seen()]
        assert same(journeys(seen)) == truth(packets)


# --- One by one --------------------------------------------------------------------------------------------------


DATAGRAM = {"payload": 64, "digest": 7}
ONE = Connection(UDP, 0, 0, 20000, dnat=True, snat=False, number=0)
OTHER = Connection(UDP, 1, 0, 20000, dnat=True, snat=False, number=1)


def test_a_datagram_whose_translation_nobody_told_of_is_followed_where_nothing_else_can_be_meant() -> None:
    both = [(each, reply) for reply in (False, True) for each in (ONE, OTHER)]
    packets = [Packet(each, reply, number * MILLISECOND, DATAGRAM) for number, (each, reply) in enumerate(both)]
    assert same(journeys([each for packet in packets for each in packet.seen()])) == truth(packets)


def test_two_connections_that_are_alike_are_not_one_because_nobody_told_of_them() -> None:
    plain = [each._replace(dnat=False) for each in (ONE, OTHER)]
    packets = [Packet(each, False, number * MILLISECOND, DATAGRAM) for number, each in enumerate(plain)]
    assert same(journeys([each for packet in packets for each in packet.seen()])) == truth(packets)


def test_a_port_that_is_used_again_belongs_to_who_has_it_then() -> None:
    """Two clients are masqueraded to the same port, one after the other, and send the same."""
    first = Connection(UDP, 0, 0, 20000, dnat=True, snat=True, number=1)
    second = first._replace(client=1, sport=20001)
    early, late = Packet(first, False, 0, DATAGRAM), Packet(second, False, SETTLED // 2, DATAGRAM)
    a, b = first.translations[0], second.translations[0]
    between = SETTLED // 4
    known = [a._replace(start=10), a._replace(end=between), b._replace(start=between + 10)]
    seen = early.seen() + late.seen()
    assert same(journeys(seen, known)) == truth([early, late])
    assert same(journeys(seen, [a, b._replace(start=between)])) == truth([early, late])


def test_an_entry_told_of_after_its_packets_is_theirs() -> None:
    packet = Packet(ONE, False, 0, DATAGRAM)
    known = [each._replace(start=SETTLED) for each in ONE.translations]
    assert same(journeys(packet.seen(), known)) == truth([packet])


def test_translations_of_several_machines_follow_each_other() -> None:
    """The first machine sends what comes to the Service to a port of the second, which sends it to a pod."""
    client = (CLIENTS[0], 4000)
    flows: list[Flow] = [(*client, SERVICE, 80), (NODE, 5000, SERVERS[0], 30080), (NODE, 5000, SERVERS[1], 8080)]
    known = [
        Translation("node-2", UDP, flows[1], swapped(flows[2])),
        Translation("node-1", UDP, flows[0], swapped(flows[1])),
    ]
    taps = [tap(f"node-{number}", f"node-{number}", "eth0", "underlay") for number in range(3)]
    there = [
        Sighting(each, number, False, Headers(4, UDP, *flow, 64 - number, 50, payload=22))
        for number, (each, flow) in enumerate(zip(taps, flows, strict=True))
    ]
    back = [
        Sighting(each, 10 + number, True, Headers(4, UDP, *swapped(flow), 64 - number, 50, payload=22))
        for number, (each, flow) in enumerate(zip(reversed(taps), reversed(flows), strict=True))
    ]
    found = [(list(each.sightings), each.client, each.reply) for each in journeys(there + back, known)]
    assert found == [(there, flows[0], False), (back, flows[0], True)]


def test_an_icmp_error_belongs_to_the_connection_that_it_is_about() -> None:
    """It goes back to the client, and what it quotes is translated back on the way."""
    first, _, last = ONE.states
    quoted = [Headers(4, UDP, *flow, 62, 92, identification=9) for flow in (last, first)]
    error = Headers(4, ICMP, SERVERS[0], 0, CLIENTS[0], 0, 64, 120, icmp_type=3, icmp_code=3, payload=92)
    path = list(reversed(way(0, 0, False)))
    seen = [
        Sighting(each.tap, number, not each.outgoing, error._replace(quoted=quoted[each.state == 0]))
        for number, each in enumerate(path)
    ]
    (journey,) = journeys(seen, ONE.translations)
    assert (journey.client, journey.reply, len(journey.sightings)) == (first, True, 9)


def test_the_middle_of_a_fragmented_packet_belongs_to_its_beginning() -> None:
    sent = [
        Packet(each, False, 0, {"identification": 4, "fragment": offset, "more": not offset, "payload": 1480})
        for each in (ONE, OTHER)
        for offset in (0, 1480)
    ]
    seen = [
        each._replace(headers=each.headers._replace(sport=0, dport=0)) if each.headers.fragment else each
        for packet in sent
        for each in packet.seen()
    ]
    found = journeys(seen, told(sent))
    assert sorted((journey.client, len(journey.sightings)) for journey in found) == sorted(
        (packet.connection.states[0], 9) for packet in sent
    )


def test_loopback_is_everybodys_own() -> None:
    loopback = packed("127.0.0.1")
    headers = Headers(4, UDP, loopback, 5000, loopback, 53, 64, 50, payload=22, digest=7)
    pods = [tap("node-1", f"default/{name}", "lo", "loopback") for name in "ab"]
    seen = [Sighting(each, number, False, headers) for number, each in enumerate(pods)]
    assert len(journeys(seen)) == 2


def test_a_link_local_address_is_of_its_link_and_not_of_one_end_of_it() -> None:
    headers = Headers(6, ICMPV6, packed("fe80::1"), 0, packed("ff02::1:ff00:1"), 0, 255, 72, icmp_type=135)
    ends = [tap("node-1", "default/a", "eth0", "pod"), tap("node-1", "node-1", "va", "veth")]
    seen = [Sighting(each, number, not number, headers) for number, each in enumerate(ends)]
    assert [len(each.sightings) for each in journeys(seen)] == [2]


def test_a_packet_in_a_routing_loop_is_one_packet() -> None:
    headers = Headers(4, UDP, CLIENTS[0], 1, SERVERS[0], 2, 64, 50, identification=3)
    eth0 = tap("node-1", "node-1", "eth0", "underlay")
    seen = [
        Sighting(eth0, time, outgoing, headers._replace(ttl=64 - time))
        for time in range(10)
        for outgoing in (False, True)
    ]
    assert [len(each.sightings) for each in journeys(seen)] == [20]


def test_what_a_bridge_hands_up_comes_behind_its_port_though_its_stamp_is_the_same() -> None:
    packet = Packet(ONE, False, 0, DATAGRAM)
    stamped = [
        each._replace(time=2000) if not each.outgoing and each.headers.ttl == 64 else each for each in packet.seen()
    ]
    (journey,) = journeys(reversed(stamped), ONE.translations)
    assert [each.tap for each in journey.sightings] == [place.tap for place in way(0, 0, False)]


def test_journeys_come_when_they_have_settled() -> None:
    correlator = Correlator()
    for translation in ONE.translations:
        correlator.learn(translation)
    packet, after = Packet(ONE, False, 0, DATAGRAM), Packet(OTHER, False, 4 * SETTLED, DATAGRAM)
    for sighting in packet.seen():
        assert correlator.add(sighting) == []
    assert correlator.advance(SETTLED // 2) == []
    assert same(correlator.advance(2 * SETTLED)) == truth([packet])
    assert correlator.add(after.seen()[0]) == []
    assert len(correlator.flush()) == 1
    assert correlator.flush() == []


@given(st.integers(1, 50))
def test_memory_is_bounded(capacity: int) -> None:
    """A flood of packets that are all alike, with no time between them, is let go of in parts."""
    correlator, held = Correlator(capacity=capacity, translations=4), 0
    for number in range(300):
        connection = ONE._replace(sport=number)
        for translation in connection.translations:
            correlator.learn(translation)
        for sighting in Packet(connection, False, number, DATAGRAM).seen()[:2]:
            held += 1 - sum(len(journey.sightings) for journey in correlator.add(sighting))
            assert held <= capacity
    assert held == sum(len(journey.sightings) for journey in correlator.flush())


# --- Words -------------------------------------------------------------------------------------------------------


PLAIN = Headers(4, TCP, CLIENTS[0], 4000, SERVICE, 80, 64, 60)
V6 = Headers(6, UDP, packed("fd00::1"), 4000, packed("fd00::2"), 53, 64, 60)
PING = Headers(4, ICMP, CLIENTS[0], 0, SERVERS[0], 0, 64, 84, icmp_type=8, icmp_id=7)


@pytest.mark.parametrize(
    ("before", "after", "reply", "words"),
    [
        (PLAIN, PLAIN, False, []),
        (
            PLAIN,
            PLAIN._replace(source=NODE, sport=5000, destination=SERVERS[0], dport=8080, ttl=63, carrier=TUNNEL),
            False,
            [
                "DNAT 10.96.0.10:80 -> 10.244.2.2:8080",
                "SNAT 10.244.1.2:4000 -> 192.0.2.1:5000",
                "TTL 64 -> 63",
                "into VXLAN 1 192.0.2.1 > 192.0.2.2",
            ],
        ),
        (PLAIN._replace(carrier=TUNNEL), PLAIN, False, ["out of VXLAN 1 192.0.2.1 > 192.0.2.2"]),
        (V6, V6._replace(destination=packed("fd00::3")), False, ["DNAT [fd00::2]:53 -> [fd00::3]:53"]),
        (V6, V6._replace(source=packed("fd00::3")), True, ["un-DNAT [fd00::1]:4000 -> [fd00::3]:4000"]),
        (V6, V6._replace(destination=packed("fd00::3")), True, ["un-SNAT [fd00::2]:53 -> [fd00::3]:53"]),
        (
            PING,
            PING._replace(source=NODE, icmp_id=8),
            False,
            ["SNAT 10.244.1.2 -> 192.0.2.1", "ICMP id 7 -> 8"],
        ),
    ],
)
def test_changes_in_words(before: Headers, after: Headers, reply: bool, words: list[str]) -> None:
    assert list(map(str, changes(before, after, reply=reply))) == words
