"""A thousand connections that look the same, through a Service, and each packet of each of them followed."""

from __future__ import annotations

import collections
import random
import select
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from netlab.capture.correlate import Correlator, Journey, Sighting, Translation, journeys, sighting, told
from netlab.capture.engine import Engine
from netlab.capture.headers import TCP, UDP, Flow, endpoint_text, swapped
from netlab.net.addresses import Family, packed
from netlab.net.conntrack.events import Events
from tests.sandbox import isolated
from tests.system.capture import cluster
from tests.system.capture.cluster import BACKENDS, EXTERNAL, FAMILIES, NODES, PORT, SERVICE, TARGET_PORT
from tests.system.proxy.hosts import ANSWERS, Host
from tests.system.proxy.hosts import dial as hello

CALLS = 500
"""From each client, both from the same ports."""
FIRST_PORT = 20_000
PROTOCOLS = {"tcp": TCP, "udp": UDP}

FROM = {
    "a": ["a eth0 >", "node-1 va <", "node-1 cni0 <"],
    "outside": ["outside eth0 >", "fabric p2 <", "fabric p0 >", "node-1 eth0 <"],
}
OVERLAY = ["node-1 vxlan7 >", "node-1 eth0 >", "fabric p0 <", "fabric p1 >", "node-2 eth0 <", "node-2 vxlan7 <"]
TO = {
    "b1": ["node-1 cni0 >", "node-1 vb1 >", "b1 eth0 <"],
    "b2": [*OVERLAY, "node-2 cni0 >", "node-2 vb2 >", "b2 eth0 <"],
    "b3": [*OVERLAY, "node-2 cni0 >", "node-2 vb3 >", "b3 eth0 <"],
}
"""The way of a packet before and behind its translation: `>` is what the owner of the interface sends there."""
OTHER_WAY = str.maketrans("<>", "><")


Step = tuple[str, Flow]
"""A place, and as what a packet is seen there."""


class Call(NamedTuple):
    """A connection as its two ends know it."""

    client: str
    backend: str
    asked: Flow
    served: Flow
    sent: int
    """Datagrams; of TCP, 0."""


class Observed(NamedTuple):
    sightings: list[Sighting]
    translations: list[Translation]
    calls: list[Call]


def observe(family: Family, protocol: str, filtered: bool) -> Observed:
    hosts = cluster.network(filtered=filtered)
    for node in NODES:
        hosts[node].call(cluster.load_proxy, family, node)
    for backend in BACKENDS:
        hosts[backend].call(cluster.serve, cluster.address(family, backend))
    acquaint(hosts, family)
    listeners = {}
    for node in NODES:
        with cluster.inside(hosts[node]):
            listeners[node] = Events()
    translations: list[Translation] = []
    with Engine(list(cluster.sources(hosts))) as engine, ThreadPoolExecutor() as calling:
        both = [calling.submit(dial, hosts, family, protocol, client) for client in ("a", "outside")]
        while not all(each.done() for each in both):
            select.select(list(listeners.values()), [], [], 0.05)
            for node, events in listeners.items():
                translations += [told(node, event) for event in events.read()]
        time.sleep(0.2)  # for the last acknowledgements of what was closed
        engine.stop()
        seen = [sighting(each.tap, each.time, each.outgoing, each.data) for each in engine.frames()]
        assert not any(engine.drops.values())
    for node, events in listeners.items():
        translations += [told(node, event) for event in events.read()]
        assert not events.lost
        events.close()
    calls = matched(hosts, family, {token: call for each in both for token, call in each.result().items()})
    return Observed([each for each in seen if each is not None], translations, calls)


def acquaint(hosts: dict[str, Host], family: Family) -> None:
    """Have neighbours find each other first: few packets may wait for that, the others are dropped."""
    for backend in BACKENDS:
        node, _ = cluster.PODS[backend]
        own = cluster.address(family, backend)
        assert hosts[node].call(hello, family, "udp", own, TARGET_PORT, ANSWERS) == cluster.LOGGED.decode()
    for client, services in (("a", SERVICE), ("outside", EXTERNAL)):
        assert hosts[client].call(hello, family, "udp", services[family], PORT, ANSWERS) == cluster.LOGGED.decode()


def dial(hosts: dict[str, Host], family: Family, protocol: str, client: str) -> dict[bytes, tuple[str, Flow, int]]:
    """Have a client call; by token, what it knows of each call."""
    tokens = [f"{client[0]}{number:07}".encode() for number in random.sample(range(10**7), CALLS)]
    own, service = cluster.address(family, client), (SERVICE if client == "a" else EXTERNAL)[family]
    ports = range(FIRST_PORT, FIRST_PORT + CALLS)
    sent = hosts[client].call(getattr(cluster, f"call_{protocol}"), own, service, ports, tokens)
    return {
        token: (client, (packed(own), port, packed(service), PORT), times)
        for token, port, times in zip(tokens, ports, sent, strict=True)
    }


def matched(hosts: dict[str, Host], family: Family, known: dict[bytes, tuple[str, Flow, int]]) -> list[Call]:
    """The calls, by what the servers logged of the same tokens."""
    calls = []
    for backend in BACKENDS:
        own = packed(cluster.address(family, backend))
        for token, peer in hosts[backend].call(cluster.logged).items():
            client, asked, sent = known.pop(token)
            calls.append(Call(client, backend, asked, (packed(peer.address), peer.port, own, TARGET_PORT), sent))
    assert not known
    assert {(call.client, call.backend) for call in calls} == {(c, b) for c in FROM for b in BACKENDS}
    assert [call for call in calls if call.served[0] == call.asked[0]] == [], "everything is masqueraded"
    return calls


def text(places: list[Step]) -> str:
    return ", ".join(f"{place} {endpoint_text(*flow[:2])} {endpoint_text(*flow[2:])}" for place, flow in places)


def ways(call: Call, filtered: bool) -> dict[bool, list[Step]]:
    """Where each packet of a call is seen, and as what; by whether it is a reply."""
    there = [(place, call.asked) for place in FROM[call.client]] + [(place, call.served) for place in TO[call.backend]]
    back = [(place.translate(OTHER_WAY), swapped(flow)) for place, flow in reversed(there)]
    if filtered:
        # A bridge translates what comes in by its ports: the destination before it hands it up, the source behind.
        halfway = (*call.asked[:2], *call.served[2:])
        if call.client == "a" and call.backend == "b1":
            there = [step for step in there if "cni0" not in step[0]]
            back[2:4] = [("node-1 cni0 >", swapped(halfway))]
        elif call.client == "a":
            there[2] = (there[2][0], halfway)
        elif call.backend == "b1":
            back[2] = (back[2][0], swapped(halfway))
    return {False: there, True: back}


def way(journey: Journey) -> list[Step]:
    return [(f"{each.tap.name} {'>' if each.outgoing else '<'}", each.headers.flow) for each in journey.sightings]


def mixed_up(observed: Observed, found: list[Journey], filtered: bool) -> str:
    """What is wrong with the journeys, in words: of each call, every packet at every hop and none of another's."""
    by_client: dict[Flow, list[Journey]] = collections.defaultdict(list)
    for journey in found:
        by_client[journey.client].append(journey)
    seen = collections.Counter(each.headers.flow for each in observed.sightings)
    wrong = []
    for call in observed.calls:
        own, name = by_client[call.asked], endpoint_text(*call.asked[:2])
        expected = ways(call, filtered)
        wrong += [
            f"{name}: {text(way(journey))} instead of {text(expected[journey.reply])}"
            for journey in own
            if way(journey) != expected[journey.reply]
        ]
        flows = {flow for each in expected.values() for _, flow in each}
        followed, all_seen = sum(len(each.sightings) for each in own), sum(seen[flow] for flow in flows)
        if followed != all_seen:
            wrong.append(f"{name}: {followed} of {all_seen} sightings are in its journeys")
        if call.sent and sum(not journey.reply for journey in own) != call.sent:
            wrong.append(f"{name}: {call.sent} datagrams were sent, not {sum(not each.reply for each in own)}")
    return "\n".join(wrong[:3])


def live(observed: Observed) -> list[Journey]:
    """The journeys as they come while packets and translations do, with little room for either."""
    correlator, found = Correlator(), []
    for translation in observed.translations:
        correlator.learn(translation)
    for each in observed.sightings:
        found += correlator.add(each)
    return found + correlator.flush()


@pytest.mark.parametrize(
    ("family", "protocol", "filtered"),
    [("IPv4", "tcp", False), ("IPv6", "udp", False), ("IPv4", "udp", True), ("IPv6", "tcp", False)],
)
@isolated
def test_a_thousand_calls_that_look_the_same_are_told_apart(family: Family, protocol: str, filtered: bool) -> None:
    observed = observe(family, protocol, filtered)
    ours = [each for each in observed.sightings if each.headers.protocol == PROTOCOLS[protocol]]
    followed = journeys(ours, observed.translations)
    assert mixed_up(observed, followed, filtered) == ""
    assert set(live(observed._replace(sightings=ours))) == set(followed)
    if protocol == "tcp":
        # Its numbers alone tell its packets apart, and who is behind a translation.
        assert mixed_up(observed, journeys(ours), filtered) == ""


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_fragments_and_the_error_about_them_are_of_one_connection(family: Family) -> None:
    hosts = cluster.network(filtered=False)
    hosts["node-1"].call(cluster.load_proxy, family, "node-1")
    with cluster.inside(hosts["node-1"]):
        events = Events()
    own, service = cluster.address(family, "a"), SERVICE[family]
    with events, Engine(list(cluster.sources(hosts))) as engine:
        assert hosts["a"].call(cluster.send_large, own, service, FIRST_PORT) == "ConnectionRefusedError"
        engine.stop()
        seen = [sighting(each.tap, each.time, each.outgoing, each.data) for each in engine.frames()]
        translations = [told("node-1", event) for event in events.read()]
    ours = [each for each in seen if each and (each.headers.protocol == UDP or each.headers.quoted)]
    found = journeys(ours, translations)
    assert {journey.client for journey in found} == {(packed(own), FIRST_PORT, packed(service), PORT)}
    sent = [way(journey)[0][0] for journey in found if not journey.reply]
    assert sent.count("a eth0 >") == 3
    (error,) = (journey for journey in found if journey.reply)
    places = [place for place, _ in way(error)]
    assert places in [
        [place.translate(OTHER_WAY) for place in reversed(FROM["a"] + TO[backend])] for backend in BACKENDS
    ]
