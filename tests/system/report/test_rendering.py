"""Pages as a browser shows them: in light and dark, on a desk and on a phone."""

from pathlib import Path
from typing import Any

import pytest

from netlab.capture.pcapng import write as write_pcapng
from netlab.report import site
from netlab.report.path import path_page
from netlab.scenario.definition import find
from netlab.scenario.results import CheckResult, result_of
from netlab.trace.model import Trace
from tests.system.report.browser import Browser, Picture
from tests.unit.report import examples
from tests.unit.report.dom import assert_sound
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
    assert [text.text for text in drawn.all("text", "party")] == ["client", "web"]
    there, back = drawn.all("text", "who")
    assert there.text.endswith("TCP SYN  client:20000 → web (Service):80")
    assert back.text.endswith("TCP SYN ACK  web:8080 → client:20000")
    assert drawn.all("text", "deed")[0].text == "DNAT 10.96.0.10:80 → 10.244.2.3:8080"
    assert tree.one("article").one("h3").text == "✓ It is <em>rewritten</em>"
    # All of a long page, so that the drawing is on it.
    assert_drawn(browser.screenshot(page, height=3000), LIGHT)
    assert_drawn(browser.screenshot(page, width=390, height=4000, dark=True), DARK)
