"""The pages of scenario runs: an index with the verdicts, and for each run its story, its checks and their packets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from netlab.counted import counted
from netlab.report import ladder, page, picture, steps
from netlab.report.markup import Child, Markup, element
from netlab.report.messages import Message
from netlab.report.overview import Overview, most_telling
from netlab.report.picture import Picture
from netlab.report.story import story
from netlab.scenario.definition import Scenario, Traffic
from netlab.scenario.results import CheckResult, Result, Status, worst

_VERDICTS: dict[Status, tuple[str, str, str]] = {
    "passed": ("Passed", "good", "✓"),
    "failed": ("Failed", "bad", "✗"),
    "error": ("Error", "bad", "!"),
    "skipped": ("Skipped", "none", "–"),
}
_BAD: tuple[Status, ...] = ("failed", "error")
_TRAFFIC: dict[Traffic, str] = {
    "intra-pod": "Within a pod",
    "pod-to-pod": "From pod to pod",
    "pod-to-service": "From pods to Services",
    "external-to-service": "From outside to Services",
}

_FOOTER = element("footer", "Written by netlab scenario run. The captures open in Wireshark and tshark.")

_LEGEND = element(
    "p",
    (
        element("span", element("span", sign, class_=class_), " ", said)
        for class_, sign, said in (
            ("key request", "", "asks"),
            ("key reply plain", "", "answers"),
            ("key bad", "", "refuses"),
            ("key unwatched", "", "to or from an unwatched place"),
            ("key dot", "", "translated by a node that was not watched"),
            ("sign bad", "✗", "not seen where it was to arrive"),
        )
    ),
    class_="legend",
)


class Packets(NamedTuple):
    """The packets of a check: the capture files beside the page, their messages, the places that saw nothing, problems,
    and the connection that shows most."""

    links: Sequence[str] = ()
    messages: Sequence[Message] = ()
    silent: Sequence[str] = ()
    troubles: Sequence[str] = ()
    overview: Overview | None = None


class Link(NamedTuple):
    """Another page."""

    href: str
    text: str


def configuration(result: Result) -> str:
    """The kind of lab in which a scenario ran: `vxlan, nftables, IPv4`."""
    return f"{result.network}, {result.proxy}, {result.family}"


# --- one run ----------------------------------------------------------------------------------------------------------


def run_page(
    result: Result,
    scenario: Scenario,
    packets: Sequence[Packets],
    *,
    index: str,
    others: Sequence[Link] = (),
    before: Link | None = None,
    after: Link | None = None,
) -> str:
    """The page of one run. `packets` has those of each check, `others` the pages of its runs in other labs."""
    checks = [
        _check(number, check, its)
        for number, (check, its) in enumerate(zip(result.checks, packets, strict=True), 1)
    ]  # fmt: skip
    lead, lesson = story(scenario.text)
    drawn = any(each.messages for each in packets)
    best = most_telling(each.overview for each in packets if each.overview)
    at = next((number for number, each in enumerate(packets, 1) if best and each.overview is best), 0)
    same = [element("a", each.text, href=each.href, class_="whole") for each in others]
    elsewhere = element("p", "The same in another lab: ", _listed(same), class_="facts")
    return page.document(
        scenario.header.title,
        element(
            "header",
            element("p", element("a", "All scenarios", href=index), f" · {result.name}", class_="eyebrow"),
            element("h1", scenario.header.title),
            element("p", _badge(result), class_="badges"),
            element("p", _facts(result), class_="facts"),
            elsewhere if same else None,
            element("div", lead, class_="lead"),
        ),
        _map(best, at, result.checks[at - 1].name, result.names) if best else None,
        element(
            "section",
            element("h2", "What was checked"),
            element("ol", map(_summary, range(1, len(checks) + 1), result.checks), class_="summary"),
        ),
        element("section", element("h2", "The checks and their packets"), _LEGEND if drawn else None, checks),
        element("section", element("h2", "The lesson"), element("div", lesson, class_="story card"))
        if lesson
        else None,
        element("nav", _neighbour(before, "←", "before"), _neighbour(after, "→", "after"), aria_label="scenarios"),
        _FOOTER,
    )


def _map(best: Overview, at: int, check: str, names: Mapping[str, str]) -> Markup:
    """The picture of a connection, with a link to its packets."""
    keys = [("request", f"the packet ({best.packet.what})")]
    if best.answer:
        keys.append(("reply", f"the answer ({best.answer.what})"))
    if best.picture.expected:
        keys.append(("expected", "the path that it should have taken"))
    missed = best.packet.unseen
    reason = f"not seen at {missed.name} {missed.where}" if missed else ""
    listed = steps.steps(best.picture.there, best.picture.back, lost=best.picture.lost, reason=reason, names=names)
    unseen = " Dashed places were not watched: the packet must have passed them." if best.picture.unwatched else ""
    return element(
        "section",
        element("h2", "A packet's path"),
        picture.figure(best.picture, keys, listed, linked=False),
        element("p", "From the check ", element("a", check, href=f"#check-{at}"), ".", unseen, class_="facts"),
    )


def _facts(result: Result) -> str:
    passed = sum(check.status == "passed" for check in result.checks)
    count = counted(len(result.checks), "check")
    return f"{configuration(result)} · {passed} of {count} passed in {result.seconds:.1f} s"


def _badge(result: Result) -> Markup:
    said, kind, _ = _VERDICTS[result.status]
    return page.badge(said, kind)


def _mark(status: Status) -> Markup:
    said, kind, sign = _VERDICTS[status]
    return element("span", sign, class_=f"sign {kind}", role="img", aria_label=said.lower())


def _summary(number: int, check: CheckResult) -> Markup:
    return element("li", _mark(check.status), " ", element("a", check.name, href=f"#check-{number}"))


def _check(number: int, check: CheckResult, packets: Packets) -> Markup:
    return element(
        "article",
        element("h3", _mark(check.status), " ", check.name),
        _statements(check),
        _figure(packets, f"packets-{number}", check.name) if packets.links or packets.troubles else None,
        id=f"check-{number}",
        class_="check card",
    )


def _statements(check: CheckResult) -> Markup:
    if check.status == "skipped":
        return element("p", "Skipped: ", check.observed, class_="facts")
    stated = [_statement(expected, observed) for expected, observed in check.statements]
    error = [element("dt", "error"), element("dd", check.error)]
    # A check ends where it fails, so the last statement is the one that does not hold.
    return element(
        "dl",
        (
            element("div", each, class_="bad" if check.status == "failed" and each is stated[-1] else None)
            for each in stated
        ),
        element("div", error, class_="bad") if check.error else None,
        class_="statements",
    )


def _statement(expected: str, observed: str) -> list[Markup]:
    topic = _topic(expected, observed)
    expected, observed = expected[len(topic) :], observed[len(topic) :]
    told = [("as expected", observed)] if expected == observed else [("expected", expected), ("observed", observed)]
    return [
        element("dt", topic.removesuffix(": ")),
        *(element("dd", element("span", name, class_="label"), said) for name, said in told if said),
    ]


def _topic(expected: str, observed: str) -> str:
    """The topic that both texts begin with (`the server sees: `), if any."""
    topic, colon, _ = expected.partition(": ")
    return topic + colon if colon and observed.startswith(topic + colon) else ""


def _figure(packets: Packets, id_: str, title: str) -> Markup:
    links = [element("a", link.rpartition("/")[2], href=link, class_="mono") for link in packets.links]
    count = len(packets.messages)
    said = [counted(count, "packet") if count else "no packets"]
    if count > ladder.MOST:
        said.append(f"the first {ladder.MOST} are drawn")
    if count and packets.silent:
        said.append(f"nothing at {', '.join(packets.silent)}")
    caption = element("figcaption", "Packets: ", _listed(links), f" ({'; '.join([*said, *packets.troubles])})")
    if not count:
        return element("figure", caption, class_="capture")
    return element(
        "figure",
        caption,
        page.scrolled(ladder.ladder(packets.messages, f"Packets: {title}", id_), "ladder diagram of the packets"),
        element("details", element("summary", "The same as a list"), _list(packets.messages[: ladder.MOST])),
        class_="capture",
    )


def _list(messages: Sequence[Message]) -> Markup:
    start = messages[0].time
    rows = (
        element(
            "tr",
            element("td", page.duration(message.time - start), class_="time"),
            element("td", element("code", message.exact)),
            element(
                "td",
                ", ".join(
                    f"{stop.lifeline.name} {stop.lifeline.where}" for stop in message.stops if stop.lifeline.watched
                ),
            ),
            element("td", "; ".join(change for stop in message.stops for change in stop.changes)),
        )
        for message in messages
    )
    heads = (element("th", text, scope="col") for text in ("Time", "Packet", "Seen at", "What was done to it"))
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return page.scrolled(table, "packets")


def _neighbour(link: Link | None, arrow: str, class_: str) -> Markup:
    if link is None:
        return element("span")
    text = f"{arrow} {link.text}" if class_ == "before" else f"{link.text} {arrow}"
    return element("a", text, href=link.href, class_=class_)


# --- all of them ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A scenario in the index: its runs with links to their pages, and the drawing beside its name."""

    scenario: Scenario
    runs: Sequence[tuple[Result, str]]
    picture: Picture | None = None


def index_page(rows: Sequence[Row], seconds: float, when: str) -> str:
    """The index: a row for each scenario, a column for each kind of lab."""
    results = [result for row in rows for result, _ in row.runs]
    labs = list(dict.fromkeys(map(configuration, results)))
    counts = {status: sum(result.status == status for result in results) for status in _VERDICTS}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    failed = [(row.scenario, result, href) for row in rows for result, href in row.runs if result.status in _BAD]
    return page.document(
        "Scenarios: " + said,
        element(
            "header",
            element("p", "netlab scenario run", class_="eyebrow"),
            element("h1", "What the packets did"),
            element("p", page.badge(said, _VERDICTS[worst([result.status for result in results])][1]), class_="badges"),
            element("p", f"{counted(len(results), 'run')} in {seconds:.0f} s, {when}", class_="facts"),
            element("ul", (_failure(*each) for each in failed), class_="differences") if failed else None,
        ),
        element("section", page.scrolled(_verdicts(rows, labs), "verdicts"), class_="card index"),
        _FOOTER,
    )


def _failure(scenario: Scenario, result: Result, href: str) -> Markup:
    checks = [check for check in result.checks if check.status in _BAD]
    return element(
        "li", element("a", scenario.header.title, href=href), f" ({configuration(result)}): ",
        "; ".join(f"{check.name}: {check.error}" if check.error else check.name for check in checks),
    )  # fmt: skip


def _verdicts(rows: Sequence[Row], labs: Sequence[str]) -> Markup:
    parts = []
    for traffic, said in _TRAFFIC.items():
        its = [row for row in rows if row.scenario.header.traffic == traffic]
        if its:
            title = element("tr", element("th", said, colspan=len(labs) + 1, scope="rowgroup"), class_="part")
            parts.append(element("tbody", title, (_verdict(row, labs) for row in its)))
    return element("table", element("thead", _heads(labs)), parts, class_="verdicts")


def _heads(labs: Sequence[str]) -> list[Markup]:
    """A row each for network, proxy and family; equal neighbouring columns share a head."""
    rows = []
    for depth in range(3):
        groups = itertools.groupby(labs, key=lambda lab: lab.split(", ")[: depth + 1])
        cells = [
            element("th", key[depth], colspan=len(list(its)), scope="col" if depth == 2 else "colgroup")
            for key, its in groups
        ]
        first = element("th", "Scenario", scope="col", rowspan=3) if depth == 0 else None
        rows.append(element("tr", first, cells))
    return rows


def _verdict(row: Row, labs: Sequence[str]) -> Markup:
    runs = {configuration(result): (result, href) for result, href in row.runs}
    name, _, rest = row.scenario.header.title.partition(": ")
    link = element("a", name, href=next(iter(runs.values()))[1])
    said = element("span", link, element("span", rest, class_="rest") if rest else None, class_="title")
    drawn = picture.thumbnail(row.picture) if row.picture else None
    return element(
        "tr",
        element("th", element("div", drawn, said, class_="scenario"), scope="row"),
        (_cell(*runs[lab]) if lab in runs else element("td") for lab in labs),
    )


def _cell(result: Result, href: str) -> Markup:
    passed, count = sum(check.status == "passed" for check in result.checks), len(result.checks)
    what = f"{_VERDICTS[result.status][0]}: {passed} of {counted(count, 'check')} passed in {result.seconds:.1f} s"
    said = "" if result.status == "skipped" else f" {passed}/{count}"
    return element(
        "td", element("a", _mark(result.status), said, href=href, title=what), class_=f"cell {result.status}"
    )


def _listed(links: Sequence[Markup]) -> list[Child]:
    return [part for index, link in enumerate(links) for part in ((", ", link) if index else (link,))]
