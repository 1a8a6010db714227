"""The page of a matrix: who may talk to whom, a row for each source. What `netlab policy show --report` writes."""

from __future__ import annotations

from netlab.counted import counted
from netlab.policy.matrix import Cell, Matrix, Sign, signs
from netlab.policy.ports import Ports
from netlab.report import page
from netlab.report.markup import Markup, element


def matrix_page(title: str, found: Matrix) -> str:
    """One self-contained HTML file."""
    marks = signs(found)
    return page.document(
        title,
        element(
            "header",
            element("h1", title),
            element("p", f"{counted(len(found.ends), 'end')}: a row for each source, a column for each destination."),
        ),
        element("figure", _legend(sorted(marks.values())), page.scrolled(_table(found, marks), "The matrix")),
        element("footer", "Written by netlab policy show."),
    )


def _legend(listed: list[Sign]) -> Markup:
    return element("ul", (element("li", _mark(each), f" {each.text}") for each in listed), class_="legend")


def _mark(sign: Sign) -> Markup:
    kind = {"+": "all", ".": "none"}.get(sign.mark, "some")
    return element("span", sign.mark, class_=f"ports {kind}")


def _table(found: Matrix, marks: dict[Ports, Sign]) -> Markup:
    def cell(source: str, destination: str) -> Markup:
        ports = found.reached.get(Cell(source, destination))
        if ports is None:
            return element("td")
        sign = marks[ports]
        return element("td", _mark(sign), title=f"{source} to {destination}: {sign.text}")

    head = element("tr", element("td"), (element("th", element("span", end), scope="col") for end in found.ends))
    rows = (
        element("tr", element("th", source, scope="row"), (cell(source, end) for end in found.ends))
        for source in found.ends
    )
    return element("table", element("thead", head), element("tbody", rows), class_="matrix")
