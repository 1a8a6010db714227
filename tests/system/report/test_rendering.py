"""Pages as a browser shows them: in light and dark, on a desk and on a phone."""

from pathlib import Path
from typing import Any

import pytest

from netlab.capture.correlate import Journey
from netlab.capture.headers import ACK, SYN
from netlab.capture.pcapng import write as write_pcapng
from netlab.lab.spec import LabSpec
from netlab.report import site
from netlab.report.captured import Captured
from netlab.report.messages import messages
from netlab.report.overview import most_telling, overviews
from netlab.report.path import path_page
from netlab.report.scenarios import Packets, Row, index_page, run_page
from netlab.scenario.definition import find
from netlab.scenario.results import CheckResult, result_of
from netlab.trace.model import Trace
from tests.system.report.browser import Browser, Picture
from tests.unit.report import examples
from tests.unit.report.dom import assert_sound
from tests.unit.report.frames import CLIENT, FROM_POD, FROM_SERVICE, TO_POD, TO_SERVICE, WEB, journey, tap, tcp
from tests.unit.report.scapy_frames import handshake
from tests.unit.report.test_scenarios import SPEC

LIGHT, DARK = bytes.fromhex("f7f8fa"), bytes.fromhex("0f141b")
"""The style sheet's colours of a page."""


def assert_drawn(picture: Picture, page: bytes) -> None:
    """It has the page's colour, many others, and the blue of packets on their way."""
    colours = picture.colours()
    assert page in [colour for colour, _ in colours.most_common(2)]
    assert len(colours) > 50
    assert sum(count for (red, _, blue), count in colours.items() if blue > red + 60) > 300


LAYOUT = """
    const box = element => element.getBoundingClientRect();
    const wide = [...page.querySelectorAll("body *")].filter(element =>
        !element.closest(".scroll") && box(element).width && box(element).right > window.innerWidth + 0.5);
    const map = page.querySelector(".map .scroll");
    return {
        overflowing: wide.map(element => element.outerHTML.slice(0, 80)),
        page: page.documentElement.scrollWidth,
        scrolls: [...page.querySelectorAll(".scroll")].map(scroll => {
            const cue = box(scroll.querySelector(".chevron")).right;
            const more = scroll.scrollWidth > scroll.clientWidth + 1;
            scroll.scrollLeft = 1e6;
            const end = box(scroll.querySelector(".scrolled")).right;
            return {label: scroll.ariaLabel, more, cued: Math.abs(box(scroll).right - cue) < 4,
                    whole: Math.abs(box(scroll).right - end) < 2};
        }),
        map: map && {fills: box(map.querySelector("svg")).width / map.clientWidth},
    };
"""
"""What overflows the page; of each box that scrolls whether there is more, and a cue; how full the map's is."""

WIDTHS = [400, 800, 1400]


def assert_fits(browser: Browser, page: Path) -> list[Any]:
    """Nothing is wider than the page but what scrolls, and that says so. The layout at each of the widths."""
    layouts = browser.measure(page, LAYOUT, WIDTHS)
    for width, layout in zip(WIDTHS, layouts, strict=True):
        assert layout["overflowing"] == []
        assert layout["page"] == width
        assert all(box["cued"] and box["whole"] for box in layout["scrolls"])
    return layouts


@pytest.mark.parametrize(
    ("trace", "one_machine"),
    [(examples.over_the_tunnel(), False), (examples.lost_in_the_tunnel(), False), (examples.hairpin(), True)],
    ids=["there", "lost", "self"],
)
def test_a_map_fills_its_card_or_scrolls(browser: Browser, tmp_path: Path, trace: Trace, one_machine: bool) -> None:
    page = tmp_path / "trace.html"
    page.write_text(path_page(trace))
    narrow, *broad = assert_fits(browser, page)
    assert narrow["scrolls"][0]["more"] == (not one_machine)
    assert narrow["map"]["fills"] > 0.9
    for layout in broad:
        assert not layout["scrolls"][0]["more"]
        assert layout["map"]["fills"] > 0.85


@pytest.mark.parametrize("trace", [examples.over_the_tunnel(), examples.lost_in_the_tunnel()], ids=["there", "lost"])
def test_a_followed_packet(browser: Browser, tmp_path: Path, trace: Trace) -> None:
    page = tmp_path / "trace.html"
    page.write_text(path_page(trace))
    tree = assert_sound(browser.dom(page))
    assert tree.one("h1").text == "default/client → svc/web:80"
    assert len(tree.one("svg", "topology").all("a")) == len(trace.hops) + len(trace.reply)
    assert_drawn(browser.screenshot(page), LIGHT)
    assert_drawn(browser.screenshot(page, width=390, height=800, dark=True), DARK)


TEXTS = """
    const inside = (one, other) => one.left < other.right - 0.5 && other.left < one.right - 0.5 &&
        one.top < other.bottom - 0.5 && other.top < one.bottom - 0.5;
    const box = shape => { const {x, y, width, height} = shape.getBBox();
        return {left: x, right: x + width, top: y, bottom: y + height}; };
    const lines = svg => [...svg.querySelectorAll("path.lifeline")].flatMap(path =>
        [...path.getAttribute("d").matchAll(/M(\\S+) (\\S+?)L(\\S+) ([^M]+)/g)].map(([, x, top, , bottom]) =>
            ({left: x - 1, right: +x + 1, top: +top, bottom: +bottom})));
    const struck = [], crossing = [];
    let count = 0;
    for (const svg of page.querySelectorAll("svg.ladder, svg.topology")) {
        const texts = [...svg.querySelectorAll("text")].filter(text => text.textContent);
        for (const [index, text] of texts.entries()) {
            count += 1;
            if (!text.matches(".party, .where") && lines(svg).some(line => inside(line, box(text))))
                struck.push(text.textContent);
            crossing.push(...texts.slice(index + 1).filter(other => inside(box(text), box(other)))
                .map(other => `${text.textContent} / ${other.textContent}`));
        }
    }
    return {count, struck, crossing, lines: [...page.querySelectorAll("svg.ladder")].flatMap(lines).length};
"""
"""The texts in drawings: those that a lifeline strikes through, and those that are on one another."""


LONG = tap("lesson/web-5b949d74fc-4r5xd-and-the-rest-of-a-name", machine="node-2")
WORLD, UPLINK = tap("outside", machine="outside", kind="underlay"), tap("node-1", kind="underlay")
CALLER, LENT, SERVER = ("2001:db8::253", 41000), ("fd00:10:244:1::", 52000), ("fd00:10:244:2::3", 8080)
NODE_PORT = ("2001:db8:ffff::1", 30080)
NAMES = {"10.96.0.10": "web (Service)", "2001:db8::253": "outside", "2001:db8:ffff::1": "node-1"}


def seen() -> list[Journey]:
    """What is hard to draw: long names and addresses, a node that turns packets round, one that is lost, a silence."""
    asked, taken = tcp(*CALLER, *NODE_PORT), tcp(*LENT, *SERVER, ttl=61)
    answered, returned = tcp(*SERVER, *LENT, SYN | ACK), tcp(*NODE_PORT, *CALLER, SYN | ACK, ttl=61)
    return [
        journey((WORLD, asked), (UPLINK, asked), (UPLINK, taken), (LONG, taken)),
        journey((LONG, answered), (UPLINK, answered), (UPLINK, returned), (WORLD, returned), begin=10**6, reply=True),
        journey((CLIENT, TO_SERVICE), (LONG, TO_POD), begin=2 * 10**6),
        journey((LONG, FROM_POD), (CLIENT, FROM_SERVICE), begin=3 * 10**6, reply=True),
        journey((WORLD, tcp(*CALLER, *SERVER)), begin=3 * 10**9),
        journey((CLIENT, TO_POD), begin=6 * 10**9),
    ]


def test_nothing_strikes_through_the_texts_of_a_drawing(browser: Browser, tmp_path: Path) -> None:
    (scenario,) = find(["03-pod-to-service"])
    checks = [CheckResult(f"Check {number}", "passed", "a: b", "a: b") for number in range(2)]
    taps = [WORLD, UPLINK, CLIENT, LONG]
    parts = [seen(), [journey((CLIENT, TO_SERVICE), (WEB, TO_POD))]]
    packets = []
    for journeys in parts:
        told = messages(journeys, NAMES, taps)
        best = most_telling(overviews(Captured(taps, journeys, []), told, NAMES))
        packets.append(Packets(["a.pcapng"], told, overview=best))
    page = tmp_path / "run.html"
    page.write_text(run_page(result_of(scenario, SPEC, "IPv4", 1.0, checks), scenario, packets, index="index.html"))
    for layout in assert_fits(browser, page):
        assert layout["map"]["fills"] > 0.85
    for found in browser.measure(page, TEXTS, WIDTHS):
        assert found["count"] > 40
        assert found["lines"] > 40
        assert found["struck"] == []
        assert found["crossing"] == []


def test_the_matrix_fits_twelve_columns(browser: Browser, tmp_path: Path) -> None:
    scenarios = find(["all"])
    specs = [
        LabSpec(nodes=2, network=network, proxy=proxy, families=[family])
        for network in ("vxlan", "routed", "bridge")
        for proxy in ("nftables", "iptables")
        for family in ("IPv4", "IPv6")
    ]
    checks = [CheckResult("It is", "passed", "a", "a")] * 10
    rows = [
        Row(each, [(result_of(each, spec, spec.families[0], 1.0, checks), "x.html") for spec in specs])
        for each in scenarios
    ]
    page = tmp_path / "index.html"
    page.write_text(index_page(rows, 1.0, "today"))
    narrow, middling, broad = assert_fits(browser, page)
    assert [layout["scrolls"][0]["more"] for layout in (narrow, middling, broad)] == [True, True, False]


def test_a_run_of_scenarios(browser: Browser, tmp_path: Path) -> None:
    pcap = tmp_path / "a.pcapng"
    write_pcapng(pcap, handshake())
    (scenario,) = find(["03-pod-to-service"])
    check = CheckResult("It is <em>rewritten</em>", "passed", "a: b", "a: b", [str(pcap)])
    result = result_of(scenario, SPEC, "IPv4", 1.0, [check], names={"10.96.0.10": "web (Service)"})
    index = site.write(tmp_path / "report", [scenario], [result], 1.0)
    listed = assert_sound(browser.dom(index))
    page = index.parent / listed.one("td", "cell").one("a").attributes["href"]
    tree = assert_sound(browser.dom(page))
    drawn = tree.one("svg", "ladder")
    assert [text.text for text in drawn.all("text", "party")] == ["client", "node-1", "web"]
    assert tree.one("svg", "topology").all("circle", "number")
    assert listed.one("svg", "thumbnail").all("circle", "deed-dot")
    there, back = drawn.all("text", "who")
    assert there.text.endswith("TCP SYN  client:20000 → web (Service):80")
    assert back.text.endswith("TCP SYN ACK  web:8080 → client:20000")
    assert drawn.all("text", "deed")[0].text == "DNAT 10.96.0.10:80 → 10.244.2.3:8080"
    assert tree.one("article").one("h3").text == "✓ It is <em>rewritten</em>"
    # All of a long page, so that the drawing is on it.
    assert_drawn(browser.screenshot(page, height=3000), LIGHT)
    assert_drawn(browser.screenshot(page, width=390, height=4000, dark=True), DARK)
