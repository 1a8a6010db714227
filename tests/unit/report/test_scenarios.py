"""The pages of scenario runs."""

import dataclasses
import os
import re
import stat
from pathlib import Path

import msgspec
import pytest

from netlab.capture.pcapng import write as write_pcapng
from netlab.capture.ring import Frame
from netlab.errors import NetlabError, UsageError
from netlab.lab.spec import LabSpec
from netlab.report import site
from netlab.report.files import write_page
from netlab.report.messages import messages
from netlab.report.scenarios import Link, Packets, Row, index_page, run_page
from netlab.report.story import story
from netlab.scenario.definition import Scenario, load
from netlab.scenario.results import CheckResult, Result, Status, result_of
from netlab.visible import visible
from tests.unit.report.dom import assert_sound, parsed
from tests.unit.report.frames import CLIENT, FROM_POD, FROM_SERVICE, NAMES, TO_POD, TO_SERVICE, WEB, journey
from tests.unit.report.test_markup import HOSTILE
from tests.unit.scenario.test_definition import make

SPEC = LabSpec(nodes=2)
MESSAGES = messages(
    [journey((CLIENT, TO_SERVICE), (WEB, TO_POD)), journey((WEB, FROM_POD), (CLIENT, FROM_SERVICE))], NAMES
)


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return load(make(tmp_path / "mine"))


def check(
    status: Status = "passed", expected: str = "who: a; b", observed: str = "who: a; c", *pcaps: Path
) -> CheckResult:
    return CheckResult("It <b>holds</b>", status, expected, observed, list(map(str, pcaps)))


def run(scenario: Scenario, *checks: CheckResult, spec: LabSpec = SPEC) -> Result:
    return result_of(scenario, spec, spec.families[0], 1.5, checks, names=NAMES)


def test_a_page_has_the_story_the_checks_and_their_packets(scenario: Scenario) -> None:
    result = run(scenario, check(), check("skipped", "x", "not here"))
    packets = [Packets(["vxlan/a.pcapng", "vxlan/b.pcapng"], MESSAGES, ["far eth0"], ["c.pcapng: gone"]), Packets()]
    before = Link("../other/x.html", "Another")
    tree = assert_sound(run_page(result, scenario, packets, index="../index.html", before=before))
    assert tree.one("h1").text == scenario.header.title
    assert tree.one("span", "badge").text == "Passed"
    first, second = tree.all("article", "check")
    assert [node.text for node in first.one("dl")] == [
        "whoas expecteda", "who", "as expecteda", "as expected",
        "expectedbobservedc", "", "expectedb", "expected", "observedc", "observed",
    ]  # fmt: skip
    assert "not here" in second.text
    assert [link.attributes["href"] for link in first.all("a")] == ["vxlan/a.pcapng", "vxlan/b.pcapng"]
    assert first.one("figcaption").text == (
        "Packets: a.pcapng, b.pcapng (2 packets; nothing at far eth0; c.pcapng: gone)"
    )
    assert len(first.all("svg", "ladder")) == 1
    assert len(first.one("tbody").all("tr")) == 2
    assert tree.one("nav").one("a").attributes["href"] == before.href


def test_what_failed_stands_out(scenario: Scenario) -> None:
    result = run(scenario, check("failed"), check())
    tree = assert_sound(run_page(result, scenario, [Packets(), Packets()], index="../index.html"))
    assert tree.one("span", "badge").text == "Failed"
    assert [row.text for row in tree.all("div", "bad")] == ["expectedbobservedc"]


def test_an_error_is_shown_as_one(scenario: Scenario) -> None:
    result = run(scenario, CheckResult("It is", "error", "a: 1", "a: 1", error="KeyError: 'x' (checks.py:3)"))
    tree = assert_sound(run_page(result, scenario, [Packets()], index="../index.html"))
    assert tree.one("span", "badge").text == "Error"
    assert [node.text for node in tree.one("dl").all("div")] == ["aas expected1", "errorKeyError: 'x' (checks.py:3)"]
    index = assert_sound(index_page([Row(scenario, [(result, "mine/a.html")])], 3, "now"))
    assert index.one("span", "badge").text == "1 error"
    assert "It is: KeyError: 'x' (checks.py:3)" in index.one("ul").text


def test_the_index_has_a_column_for_each_lab_and_names_what_failed(scenario: Scenario) -> None:
    other = LabSpec(nodes=2, network="routed", proxy="iptables", families=["IPv6"])
    runs = [(run(scenario, check()), "mine/a.html"), (run(scenario, check("failed"), spec=other), "mine/b.html")]
    tree = assert_sound(index_page([Row(scenario, runs)], 12.0, "today"))
    assert [[head.text for head in row.all("th")] for row in tree.one("thead").all("tr")] == [
        ["Scenario", "vxlan", "routed"], ["nftables", "iptables"], ["IPv4", "IPv6"],
    ]  # fmt: skip
    assert [cell.text for cell in tree.all("td", "cell")] == ["✓ 1/1", "✗ 0/1"]
    assert tree.one("ul", "differences").one("a").attributes["href"] == "mine/b.html"
    assert tree.one("span", "badge").text == "1 passed, 1 failed"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_stay_words(scenario: Scenario, text: str) -> None:
    header = msgspec.structs.replace(scenario.header, title=text)
    hostile = dataclasses.replace(scenario, header=header, text=f"# {text}\n\n{text}\n\n    {text}\n")
    result = run(hostile, CheckResult(text, "failed", f"{text}: {text}", text))
    page = run_page(result, hostile, [Packets([text], MESSAGES, [text], [text])], index="../index.html")
    for each in (page, index_page([Row(hostile, [(result, "x.html")])], 1.0, text)):
        tree = assert_sound(each)
        assert tree.all("img") == []
        assert visible(text) in tree.text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", each)


def test_a_column_of_the_matrix_is_headed_once_by_what_it_shares_with_its_neighbours(scenario: Scenario) -> None:
    specs = [
        LabSpec(nodes=2, network=network, proxy=proxy, families=[family])
        for network in ("vxlan", "routed", "bridge")
        for proxy in ("nftables", "iptables")
        for family in ("IPv4", "IPv6")
    ]
    runs = [(run(scenario, check(), spec=spec), "x.html") for spec in specs]
    tree = assert_sound(index_page([Row(scenario, runs)], 12.0, "today"))
    spans = [[head.attributes.get("colspan") for head in row.all("th")] for row in tree.one("thead").all("tr")]
    assert spans == [[None, "4", "4", "4"], ["2"] * 6, ["1"] * 12]
    assert len(tree.all("td", "cell")) == 12


def test_a_story_is_rendered_without_its_title_and_without_what_leads_nowhere() -> None:
    lead, rest = story(
        "# Title\n\nFirst `b`, and this:\n\n## Part\n\n"
        "*a* `b` <u>c</u> [d](../x.md) ![e](e.png) [f](https://example.org/) [g](javascript:g)\n\n"
        "| h | i |\n|---|---|\n| j | k |\n\n```\n<l>\n\tm\x1b\n```\n"
    )
    assert parsed(lead).text.strip() == "First b, and this."
    tree = parsed(rest)
    assert tree.all("h1") == []
    assert tree.one("h2").text == "Part"
    assert tree.one("p").text == "a b <u>c</u> d e f [g](javascript:g)"
    assert [link.attributes["href"] for link in tree.all("a")] == ["https://example.org/"]
    assert [cell.text for cell in tree.all("td")] == ["j", "k"]
    assert tree.one("pre").text == "<l>\n\tm\\x1b\n"
    assert tree.one("div", "scroll").all("pre")


# --- on disk ----------------------------------------------------------------------------------------------------------


def capture(path: Path) -> Path:
    write_pcapng(path, [Frame(CLIENT, 1, True, b"\0" * 60, 60)], taps=[CLIENT])
    return path


def test_a_report_is_whole_for_its_owner_alone_and_can_be_moved(scenario: Scenario, tmp_path: Path) -> None:
    pcap, gone = capture(tmp_path / "out" / "a.pcapng"), tmp_path / "out" / "gone.pcapng"
    junk = tmp_path / "out" / "junk.pcapng"
    junk.write_bytes(b"junk")
    result = run(scenario, check("passed", "a", "a", pcap, gone, junk))
    directory = tmp_path / "new" / "report"
    before = os.umask(0o022)
    try:
        assert site.write(directory, [scenario], [result], 1.0) == directory / "index.html"
    finally:
        os.umask(before)
    pcap.unlink()
    moved = directory.rename(tmp_path / "moved")
    for page in (moved / "index.html", moved / "mine" / "vxlan-nftables-IPv4.html"):
        tree = assert_sound(page.read_text(encoding="utf-8"))
        for link in tree.all("a"):
            target = link.attributes["href"].partition("#")[0]
            assert not target or (page.parent / target).exists()
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in moved.rglob("*") if path.is_file()} == {"0o644"}
    assert stat.S_IMODE(moved.stat().st_mode) == 0o755
    caption = tree.one("figcaption").text
    assert caption.startswith("Packets: a.pcapng, junk.pcapng (no packets; ")
    assert "gone.pcapng: No such file" in caption
    assert "junk.pcapng: not a pcapng file" in caption


def test_a_report_replaces_a_report_and_nothing_else(scenario: Scenario, tmp_path: Path) -> None:
    result = run(scenario, check())
    site.write(tmp_path / "report", [scenario], [result], 1.0)
    index = site.write(tmp_path / "report", [scenario], [result], 2.0)
    assert "in 2 s" in index.read_text()
    index.write_text("<!DOCTYPE html><p>Mine")
    with pytest.raises(UsageError, match=r"index\.html: not one of netlab's reports"):
        site.write(tmp_path / "report", [scenario], [result], 3.0)
    assert index.read_text() == "<!DOCTYPE html><p>Mine"
    assert list(index.parent.glob(".*")) == []


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetlabError, match=r"index\.html: Not a directory: cannot write the report there"):
        write_page(tmp_path / "file" / "index.html", "x")
    (tmp_path / "index.html").mkdir()
    with pytest.raises(NetlabError, match=r"index\.html: Is a directory"):
        write_page(tmp_path / "index.html", "x")


def test_captures_that_are_in_the_report_already_stay(scenario: Scenario, tmp_path: Path) -> None:
    pcap = capture(tmp_path / "mine" / "vxlan-nftables-IPv4" / "a.pcapng")
    before = pcap.read_bytes()
    site.write(tmp_path, [scenario], [run(scenario, check("passed", "a", "a", pcap))], 1.0)
    assert pcap.read_bytes() == before
