"""The report of scenarios that were run, by the command line."""

import re
from pathlib import Path

from tests.e2e.conftest import Netlab
from tests.unit.report.dom import assert_sound


def test_a_run_leaves_a_report_beside_its_captures(lab: Netlab, tmp_path: Path) -> None:
    report = tmp_path / "report"
    said = lab.run("scenario", "run", "03-pod-to-service", "--pcap-dir", str(tmp_path / "out"), "--report", str(report))
    assert said.returncode == 0, said.stderr
    assert f"report: {report / 'index.html'}" in said.stderr
    index = assert_sound((report / "index.html").read_text())
    page = report / index.one("td", "cell").one("a").attributes["href"]
    tree = assert_sound(page.read_text())
    assert len(tree.all("article", "check")) == 6
    drawn = [text.text for text in tree.all("text", "who")]
    assert any(re.search(r"TCP SYN  client:2\d{4} → web \(Service\):80", text) for text in drawn), drawn
    assert any(text.text.startswith("DNAT ") for text in tree.all("text", "deed"))
    assert tree.one("svg", "topology").all("circle", "number request")
    assert index.one("svg", "thumbnail").all("path", "way request")
    for link in (link for check in tree.all("article", "check") for link in check.all("a")):
        assert (page.parent / link.attributes["href"]).exists()


def test_a_page_of_somebodys_own_is_not_replaced_and_nothing_is_run(lab: Netlab, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    pcaps = tmp_path / "out"
    arguments = ("scenario", "run", "all", "--pcap-dir", str(pcaps), "--report", str(tmp_path))
    assert "not one of netlab's reports" in lab.fails(2, *arguments)
    assert (tmp_path / "index.html").read_text() == "mine"
    assert not pcaps.exists()
