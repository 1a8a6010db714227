"""The page of a followed packet."""

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from netlab.capture.changes import Change
from netlab.report.decisions import decisions
from netlab.report.files import write_page
from netlab.report.layers import Field, Layer, layers
from netlab.report.path import nearest, path_page, path_picture
from netlab.report.steps import steps
from netlab.report.topology import plan, way_through
from netlab.trace.model import Trace, Verdict
from tests.unit.report import examples
from tests.unit.report.dom import Node, assert_sound
from tests.unit.report.test_markup import HOSTILE

TRACES = [examples.over_the_tunnel(), examples.lost_in_the_tunnel(), examples.hairpin()]


def rows(tree: Node, class_: str) -> list[str]:
    return [row.text for row in tree.one("table", "comparison").all("tr", class_)]


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.verdict.outcome)
def test_a_page_is_sound_and_has_every_hop(trace: Trace) -> None:
    tree = assert_sound(path_page(trace))
    assert len(tree.all("li")) >= len(trace.hops) + len(trace.reply)
    for number in range(1, len(trace.hops) + len(trace.reply) + 1):
        assert sum(node.attributes.get("id") == f"hop-{number}" for node in tree) == 1
    assert len(tree.one("svg", "topology").all("circle")) == len(trace.hops) + len(trace.reply)


def test_an_agreeing_trace_says_so_and_names_what_decided() -> None:
    tree = assert_sound(path_page(examples.over_the_tunnel()))
    assert [badge.text for badge in tree.all("span", "badge")] == ["Delivered", "As predicted"]
    assert any(examples.RULE in item.text for item in tree.one("ol", "hops request").all("li"))
    assert rows(tree, "different") == []
    assert len(rows(tree, "same")) == 12 + 12 + 1
    assert tree.all("path", "expected") == []
    assert "1 other path that the state allows" in tree.text


def test_a_machine_comes_before_its_interface_and_a_cause_before_its_rule_and_route() -> None:
    tree = assert_sound(path_page(examples.over_the_tunnel()))
    hops = tree.one("ol", "hops request").all("li", "")
    heads = [node.one("h3").text for node in hops if node.attributes.get("id")]
    assert heads[:4] == ["default/client eth0 out", "node-1 veth3f21a0 in", "node-1 cni0 in", "node-1 vxlan0 out"]
    fourth = next(node for node in hops if node.attributes.get("id") == "hop-4")
    assert [part.text for part in fourth.one("dl", "by").all("div")] == [
        f"Cause{examples.RULE}", "Route10.244.2.0/24 via 10.244.2.0 dev vxlan0",
    ]  # fmt: skip


def test_decisions_are_sorted_into_causes_rules_and_routes() -> None:
    assert decisions(
        [
            "route 10.244.1.0/24 dev cni0",
            "rule of ip kube-proxy pick-3: dnat ip to 1",
            "Service default/web:http: one of 3 endpoints",
            "because of rule of ip kube-proxy dispatch: jump mark",
            "FDB 02:f3:20:87:85:23 dst 192.0.2.1 dev vxlan0",
            "connection tracking of node-1, which undoes: Service default/web:http",
        ]
    ) == [
        ("Cause", "Service default/web:http: one of 3 endpoints"),
        ("Cause", "connection tracking of node-1, which undoes: Service default/web:http"),
        ("Rule", "ip kube-proxy pick-3: dnat ip to 1"),
        ("Rule", "because of rule of ip kube-proxy dispatch: jump mark"),
        ("Route", "10.244.1.0/24 dev cni0"),
        ("Route", "FDB 02:f3:20:87:85:23 dst 192.0.2.1 dev vxlan0"),
    ]


def test_the_steps_beside_the_map_are_those_where_something_happens() -> None:
    there = [
        (1, ["sends 10.244.1.2:40000 → 10.96.0.10:80"]),
        (4, ["DNAT 10.96.0.10:80 → 10.244.2.3:8080"]),
        (5, ["into VXLAN 1 192.0.2.1 → 192.0.2.2"]),
        (9, ["out of VXLAN 1"]),
        (12, ["receives 10.244.1.2:40000 → 10.244.2.3:8080"]),
    ]
    back = [
        (13, ["answers 10.244.2.3:8080 → 10.244.1.2:40000"]),
        (22, ["un-DNAT 10.244.2.3:8080 → 10.96.0.10:80"]),
        (24, ["receives the answer 10.96.0.10:80 → 10.244.1.2:40000"]),
    ]
    trace = examples.over_the_tunnel()
    assert [(step.number, step.what) for step in steps(trace.hops, trace.reply)] == [*there, *back]
    names = {"10.96.0.10": "web (Service)", "10.244.1.2": "client"}
    assert steps(trace.hops, trace.reply, names=names)[0].what == ["sends client:40000 → web (Service):80"]
    refused = steps(trace.hops, trace.reply, lost="there", reason="nobody listens")[4]
    assert (refused.what, refused.why) == (["refuses it"], "nobody listens")
    lost = examples.lost_in_the_tunnel()
    last = steps(lost.hops, [], lost="there", reason="no entry")[-1]
    assert (last.number, last.what[-1], last.why) == (4, "sees the packet last", "no entry")


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.verdict.outcome)
def test_a_map_of_its_own_is_an_svg_that_needs_nothing(trace: Trace, tmp_path: Path) -> None:
    text = path_picture(trace)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not [node for node in root.iter() if node.tag.endswith("}a")]
    (style,) = (node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}style"))
    assert "url(" not in style
    assert "@import" not in style
    write_page(tmp_path / "trace.svg", text)
    write_page(tmp_path / "trace.svg", text)  # it is known for netlab's own


def test_a_lost_packet_ends_in_a_cross_beside_the_way_it_should_have_gone() -> None:
    trace = examples.lost_in_the_tunnel()
    tree = assert_sound(path_page(trace))
    assert [badge.text for badge in tree.all("span", "badge")] == ["Dropped", "Not as predicted"]
    assert tree.one("ul", "differences").text == trace.differences[0]
    assert len(tree.one("svg", "topology").all("path", "end")) == 1
    assert len(tree.all("path", "expected")) == 1
    assert any("node-1 eth0 out" in row and "nothing" in row for row in rows(tree, "different"))
    assert not tree.all("ol", "reply")


@pytest.mark.parametrize(
    ("outcome", "answered", "beside"), [("dropped", 3, 15), ("refused", 12, 12), ("rejected", 0, 12)]
)
def test_the_cross_is_where_it_ended(outcome: str, answered: int, beside: int) -> None:
    whole = examples.over_the_tunnel()
    verdict = msgspec.structs.replace(whole.verdict, outcome=outcome)
    trace = msgspec.structs.replace(whole, reply=whole.reply[:answered], verdict=verdict)
    drawn = assert_sound(path_page(trace)).one("svg", "topology")
    x, y = map(float, drawn.one("path", "end").attributes["d"].removeprefix("M").partition("L")[0].split())
    centres = [tuple(float(each.attributes[name]) for name in ("cx", "cy")) for each in drawn.all("circle")]
    nearest_first = sorted(range(len(centres)), key=lambda i: (centres[i][0] - x) ** 2 + (centres[i][1] - y) ** 2)
    numbers = [int(text.text) for text in drawn.all("text", "number")]
    assert numbers[nearest_first[0]] == beside


def test_nothing_seen_and_nothing_predicted_is_a_page_too() -> None:
    verdict = Verdict("dropped", "node-1", "no route to 203.0.113.1")
    tree = assert_sound(path_page(Trace("default/client", "203.0.113.1:80", "tcp", [], [], verdict, [], agrees=False)))
    assert "no route to 203.0.113.1" in tree.one("p", "reason").text
    assert tree.all("svg") == []


def test_the_predicted_way_that_is_shown_is_the_one_most_like_the_observed() -> None:
    trace = examples.over_the_tunnel()
    assert nearest(trace) is trace.predicted[1]
    assert nearest(examples.hairpin()) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_names(text: str) -> None:
    trace = examples.over_the_tunnel()
    hops = [
        msgspec.structs.replace(
            hop,
            owner=text,
            interface=text,
            changed=[Change("DNAT", text, text)],
            by=[text],
            encapsulation=text,
            src=text,
            protocol=text,
        )
        for hop in trace.hops
    ]
    verdict = Verdict("dropped", text, text)
    hostile = msgspec.structs.replace(
        trace,
        source=text,
        destination=text,
        protocol=text,
        hops=hops,
        verdict=verdict,
        differences=[text],
        agrees=False,
    )
    tree = assert_sound(path_page(hostile))
    assert tree.all("img") == []
    assert {node.tag for node in tree} == {node.tag for node in assert_sound(path_page(_other(hostile)))}


def _other(trace: Trace) -> Trace:
    """The same with harmless names."""
    encoded = msgspec.json.encode(trace)
    for text in HOSTILE:
        encoded = encoded.replace(msgspec.json.encode(text)[1:-1], b"harmless")
    return msgspec.json.decode(encoded, type=Trace)


def test_layers_tell_what_is_new() -> None:
    hops = examples.over_the_tunnel().hops
    assert layers(hops[0], None) == [
        Layer("IPv4", [Field("10.244.1.2"), Field("→"), Field("10.96.0.10"), Field("TTL 64")]),
        Layer("TCP", [Field("40000"), Field("→"), Field("80")]),
    ]
    assert [field for layer in layers(hops[3], hops[2]) for field in layer.fields if field.new] == [
        Field("10.244.2.3", new=True),
        Field("TTL 63", new=True),
        Field("8080", new=True),
    ]
    inside = layers(hops[4], hops[3])
    assert [layer.name for layer in inside] == ["IPv4", "UDP", "VXLAN", "IPv4", "TCP"]
    assert [layer.outer for layer in inside] == [True] * 3 + [False] * 2
    assert inside[0].fields == [Field("192.0.2.1 → 192.0.2.2", new=True)]
    assert not layers(hops[5], hops[4])[0].fields[0].new


def test_an_identifier_of_icmp_is_no_port() -> None:
    hop = msgspec.structs.replace(examples.over_the_tunnel().hops[0], protocol="icmp", sport=7, dport=7)
    assert layers(hop, None)[-1] == Layer("ICMP", [Field("id 7")])
    assert "40000" not in path_page(
        msgspec.structs.replace(examples.over_the_tunnel(), hops=[hop], reply=[], predicted=[])
    )


def test_a_way_that_passes_an_interface_twice_has_a_place_for_each_visit() -> None:
    trace = examples.hairpin()
    laid = plan([trace.hops, trace.reply])
    there, back = way_through(laid, trace.hops, 1), way_through(laid, trace.reply, 0)
    places = [*there.places, *back.places]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.verdict.outcome)
def test_boxes_hold_their_interfaces_and_no_two_of_these_overlap(trace: Trace) -> None:
    laid = plan([trace.hops, trace.reply, *(path.hops for path in trace.predicted)])
    chips = list(laid.chips.values())
    for index, chip in enumerate(chips):
        assert chip.x >= 0
        assert chip.x + chip.width <= laid.width
        for other in chips[index + 1 :]:
            assert chip.y != other.y or chip.x + chip.width <= other.x or other.x + other.width <= chip.x
    machines = [box for box in laid.boxes if box.kind == "machine"]
    assert {box.name for box in machines} == {hop.node for hop in trace.hops if hop.node != "fabric"} | (
        {"node-2"} if trace.predicted else set()
    )
