"""The page of one followed packet: what `netlab trace --report` writes."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from typing import Literal

from netlab.counted import counted
from netlab.net.addresses import end_text
from netlab.report import decisions, layers, page, picture, steps
from netlab.report.markup import Child, Markup, element
from netlab.report.picture import Picture
from netlab.trace import compare
from netlab.trace.model import Hop, Path, Trace

_OUTCOMES = {
    "delivered": ("Delivered", "good"),
    "refused": ("Refused", "bad"),
    "rejected": ("Rejected", "bad"),
    "dropped": ("Dropped", "bad"),
}


def path_page(trace: Trace) -> str:
    """One self-contained HTML file: the topology with the path, the packet at each hop, and the prediction."""
    expected = nearest(trace)
    there = _hops("The packet's path, hop by hop", trace.hops, 1, "request")
    back = _hops("The reply's path, hop by hop", trace.reply, len(trace.hops) + 1, "reply")
    return page.document(
        f"{trace.source} → {trace.destination}",
        _header(trace),
        element("section", element("h2", "The path"), _figure(trace, expected)) if trace.hops else None,
        there,
        back,
        _comparison(trace, expected),
        element("footer", "Written by netlab trace."),
    )


def path_picture(trace: Trace) -> str:
    """An SVG file: the topology with the path, for light and dark pages."""
    return picture.standalone(picture_of(trace))


def nearest(trace: Trace) -> Path | None:
    """The predicted path that is most like the observed one."""
    return compare.nearest(trace.predicted, Path(trace.hops, trace.reply, trace.verdict))


def _header(trace: Trace) -> Markup:
    said, kind = _OUTCOMES[trace.verdict.outcome]
    agreement = (
        page.badge("As predicted", "good")
        if trace.agrees
        else page.badge("Not as predicted" if trace.predicted else "Nothing was predicted", "bad")
    )
    facts = [counted(len(trace.hops), "hop")]
    if trace.hops:
        facts.append(f"{page.duration(trace.hops[-1].nanoseconds)} on the way")
    facts.append(f"reply: {counted(len(trace.reply), 'hop')}" if trace.reply else "no reply")
    differences = element("ul", (element("li", each) for each in trace.differences), class_="differences")
    return element(
        "header",
        element("p", f"netlab trace · {trace.protocol.upper()}", class_="eyebrow"),
        element("h1", trace.source, element("span", " → ", class_="arrow"), trace.destination),
        element("p", page.badge(said, kind), " ", agreement, class_="badges"),
        element("p", element("b", trace.verdict.node), f": {trace.verdict.reason}", class_="reason"),
        differences if trace.differences else None,
        element("p", " · ".join(facts), class_="facts"),
    )


def picture_of(trace: Trace) -> Picture:
    """What is drawn of a trace."""
    expected = nearest(trace)
    lost: Literal["", "there", "back"] = ""
    if trace.verdict.outcome != "delivered":
        # If there was an answer and something was dropped, it was the answer.
        lost = "back" if trace.verdict.outcome == "dropped" and trace.reply else "there"
    return Picture(
        f"{trace.source} → {trace.destination}", trace.hops, trace.reply,
        expected.hops if expected and not trace.agrees else [], lost,
    )  # fmt: skip


def _figure(trace: Trace, expected: Path | None) -> Markup:
    keys = [("request", "the packet")]
    if trace.reply:
        keys.append(("reply", "the reply"))
    if not trace.agrees and expected:
        keys.append(("expected", "the predicted path"))
    drawn = picture_of(trace)
    return picture.figure(
        drawn, keys, steps.steps(trace.hops, trace.reply, lost=drawn.lost, reason=trace.verdict.reason)
    )


def _hops(title: str, hops: Sequence[Hop], first: int, kind: str) -> Markup | None:
    if not hops:
        return None
    items = [
        _hop(number, hop, hops[number - first - 1] if number > first else None)
        for number, hop in enumerate(hops, first)
    ]
    return element("section", element("h2", title), element("ol", items, class_=f"hops {kind}"))


def _hop(number: int, hop: Hop, before: Hop | None) -> Markup:
    moment = page.duration(hop.nanoseconds)
    since = f"+{page.duration(hop.nanoseconds - before.nanoseconds)}" if before else ""
    where = f"{hop.kind} on {hop.node}" if hop.owner != hop.node else hop.kind
    return element(
        "li",
        element(
            "div",
            element("span", number, class_="number"),
            element("h3", hop.owner, " ", element("b", hop.interface), " ", element("span", hop.direction)),
            element("span", where, class_="kind"),
            element("time", moment, element("span", f" {since}", class_="since") if since else None),
            class_="hop-head",
        ),
        layers.draw(layers.layers(hop, before)),
        element("ul", (element("li", decisions.arrowed(str(each))) for each in hop.changed), class_="changed")
        if hop.changed
        else None,
        _decisions(hop) if hop.by else None,
        id=f"hop-{number}",
    )


def _decisions(hop: Hop) -> Markup:
    """What decided, each with its kind: cause, rule, route."""
    groups = itertools.groupby(decisions.decisions(hop.by), key=lambda each: each.kind)
    return element(
        "dl",
        (
            element("div", element("dt", kind), (element("dd", each.text) for each in its), class_=kind.lower())
            for kind, its in groups
        ),
        class_="by",
    )


def _comparison(trace: Trace, expected: Path | None) -> Markup:
    title = element("h2", "Prediction and observation")
    if expected is None:
        return element("section", title, element("p", "The lab's state predicted no path for this packet."))
    others = [path for path in trace.predicted if path is not expected]
    alternatives = element(
        "details",
        element("summary", f"{counted(len(others), 'other path')} that the state allows"),
        element("ul", (element("li", _summary(path)) for path in others)),
    )
    return element(
        "section",
        title,
        _card(
            element(
                "table",
                element(
                    "thead",
                    element("tr", (element("th", text, scope="col") for text in ("", "Predicted", "Observed", "By"))),
                ),
                element("tbody", *_rows("The packet", expected.hops, trace.hops)),
                element("tbody", *_rows("The reply", expected.reply, trace.reply)),
                element("tbody", _verdicts(expected, trace)),
                class_="comparison",
            ),
            "prediction and observation, hop by hop",
        ),
        alternatives if others else None,
        class_="wide",
    )


def _card(table: Markup, label: str) -> Markup:
    return element("div", page.scrolled(table, label), class_="card")


def _rows(title: str, expected: Sequence[Hop], observed: Sequence[Hop]) -> list[Markup]:
    if not (expected or observed):
        return []
    rows = [_part(title)]
    matcher = difflib.SequenceMatcher(None, _places(expected), _places(observed), autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        for offset in range(max(i2 - i1, j2 - j1)):
            one = expected[i1 + offset] if i1 + offset < i2 else None
            other = observed[j1 + offset] if j1 + offset < j2 else None
            rows.append(_row(one, other))
    return rows


def _row(expected: Hop | None, observed: Hop | None) -> Markup:
    same = (
        expected is not None
        and observed is not None
        and _place(expected) == _place(observed)
        and _headers(expected) == _headers(observed)
    )
    by = next((hop.by for hop in (observed, expected) if hop and hop.by), [])
    return _compared(same, _cell(expected), _cell(observed), "; ".join(by))


def _compared(same: bool, expected: Child, observed: Child, by: str = "") -> Markup:
    return element(
        "tr",
        element("td", "✓" if same else "≠", class_="mark", aria_label="the same" if same else "different"),
        element("td", expected),
        element("td", observed),
        element("td", by, class_="by"),
        class_="same" if same else "different",
    )


def _cell(hop: Hop | None) -> list[Markup | str]:
    if hop is None:
        return [element("span", "nothing", class_="nothing")]
    return [
        element("b", f"{hop.owner} {hop.interface}"), f" {hop.direction}", element("br"),
        element("code", _headers(hop)),
    ]  # fmt: skip


def _verdicts(expected: Path, trace: Trace) -> list[Markup]:
    same = expected.verdict.outcome == trace.verdict.outcome
    predicted, observed = (
        [element("b", each.outcome), f" {each.node}: {each.reason}"] for each in (expected.verdict, trace.verdict)
    )
    return [_part("The outcome"), _compared(same, predicted, observed)]


def _part(title: str) -> Markup:
    return element("tr", element("th", title, colspan="4", scope="rowgroup"), class_="part")


def _summary(path: Path) -> str:
    said = f"{path.verdict.outcome}, {path.verdict.node}: {path.verdict.reason}"
    return (
        f"to {end_text(path.hops[-1].dst, path.hops[-1].dport)} by {counted(len(path.hops), 'hop')}: {said}"
        if path.hops
        else said
    )


def _headers(hop: Hop) -> str:
    carried = f" in {hop.encapsulation}" if hop.encapsulation else ""
    return f"{steps.headers(hop)}{carried}"


def _place(hop: Hop) -> tuple[str, str, str]:
    return hop.owner, hop.interface, hop.direction


def _places(hops: Sequence[Hop]) -> list[tuple[str, str, str]]:
    return [_place(hop) for hop in hops]
