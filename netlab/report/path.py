"""The page of one followed packet: what `netlab trace --report` writes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from netlab.report import layers, page, topology
from netlab.report.markup import Markup, element
from netlab.trace.model import Hop, Path, Trace

_OUTCOMES = {
    "delivered": ("Delivered", "good"),
    "refused": ("Refused", "bad"),
    "rejected": ("Rejected", "bad"),
    "dropped": ("Dropped", "bad"),
}


def path_page(trace: Trace) -> str:
    """One self-contained HTML file: the topology with the way on it, the packet at each hop, and the prediction."""
    expected = nearest(trace)
    there = _hops("The packet's way, hop by hop", trace.hops, 1, "request")
    back = _hops("The way of the reply", trace.reply, len(trace.hops) + 1, "reply")
    return page.document(
        f"{trace.source} → {trace.destination}",
        _header(trace),
        element("section", element("h2", "The way"), _picture(trace, expected), class_="wide") if trace.hops else None,
        there,
        back,
        _comparison(trace, expected),
        element("footer", "Written by netlab trace."),
    )


def nearest(trace: Trace) -> Path | None:
    """Of the predicted paths, the one most like what was observed."""

    def likeness(path: Path) -> float:
        observed, expected = _places(trace.hops), _places(path.hops)
        same = path.verdict.outcome == trace.verdict.outcome
        headers = {(hop.src, hop.sport, hop.dst, hop.dport) for hop in trace.hops}
        shared = headers & {(hop.src, hop.sport, hop.dst, hop.dport) for hop in path.hops}
        return difflib.SequenceMatcher(None, observed, expected, autojunk=False).ratio() + same + len(shared)

    return max(trace.predicted, key=likeness, default=None)


def _header(trace: Trace) -> Markup:
    said, kind = _OUTCOMES[trace.verdict.outcome]
    agreement = (
        page.badge("As predicted", "good")
        if trace.agrees
        else page.badge("Not as predicted" if trace.predicted else "Nothing was predicted", "bad")
    )
    facts = [page.words(len(trace.hops), "hop")]
    if trace.hops:
        facts.append(f"{page.duration(trace.hops[-1].nanoseconds)} on the way")
    facts.append(f"reply: {page.words(len(trace.reply), 'hop')}" if trace.reply else "no reply")
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


def _picture(trace: Trace, expected: Path | None) -> Markup:
    keys = [("request", "the packet"), ("reply", "the reply")]
    if not trace.agrees and expected:
        keys.append(("expected", "the way predicted"))
    shown = [key for key in keys if key[0] != "reply" or trace.reply]
    legend = element(
        "p", (element("span", element("span", class_=f"key {key}"), " ", name) for key, name in shown), class_="legend"
    )
    return element("figure", page.scrolled(topology.draw(trace, expected), "topology"), legend)


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
    where = hop.owner if hop.owner == hop.node else f"{hop.owner} on {hop.node}"
    return element(
        "li",
        element(
            "div",
            element("span", number, class_="number"),
            element("h3", element("b", hop.interface), element("span", f" {where}", class_="where")),
            element("span", f"{hop.kind}, {hop.direction}", class_="kind"),
            element("time", moment, element("span", f" {since}", class_="since") if since else None),
            class_="hop-head",
        ),
        layers.draw(layers.layers(hop, before)),
        element("ul", (element("li", each) for each in hop.changed), class_="changed") if hop.changed else None,
        element("ul", (element("li", each) for each in hop.by), class_="by") if hop.by else None,
        id=f"hop-{number}",
    )


def _comparison(trace: Trace, expected: Path | None) -> Markup:
    title = element("h2", "Prediction beside observation")
    if expected is None:
        return element("section", title, element("p", "The lab's state foretold no way for this packet."))
    others = [path for path in trace.predicted if path is not expected]
    alternatives = element(
        "details",
        element("summary", f"{page.words(len(others), 'other way')} that the state allows"),
        element("ul", (element("li", _summary(path)) for path in others)),
    )
    return element(
        "section",
        title,
        page.scrolled(
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


def _rows(title: str, expected: Sequence[Hop], observed: Sequence[Hop]) -> list[Markup]:
    if not (expected or observed):
        return []
    rows = [element("tr", element("th", title, colspan="4", scope="rowgroup"), class_="part")]
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
    by = (observed.by if observed and observed.by else expected.by if expected else []) or []
    return element(
        "tr",
        element("td", "✓" if same else "≠", class_="mark", aria_label="the same" if same else "different"),
        element("td", _cell(expected)),
        element("td", _cell(observed)),
        element("td", "; ".join(by), class_="by"),
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
    return [
        element("tr", element("th", "The end", colspan="4", scope="rowgroup"), class_="part"),
        element(
            "tr",
            element("td", "✓" if same else "≠", class_="mark", aria_label="the same" if same else "different"),
            *(
                element("td", element("b", each.outcome), f" {each.node}: {each.reason}")
                for each in (expected.verdict, trace.verdict)
            ),
            element("td"),
            class_="same" if same else "different",
        ),
    ]


def _summary(path: Path) -> str:
    said = f"{path.verdict.outcome}, {path.verdict.node}: {path.verdict.reason}"
    return (
        f"to {_end(path.hops[-1].dst, path.hops[-1].dport)} by {page.words(len(path.hops), 'hop')}: {said}"
        if path.hops
        else said
    )


def _headers(hop: Hop) -> str:
    carried = f" in {hop.encapsulation}" if hop.encapsulation else ""
    return f"{_end(hop.src, hop.sport)} > {_end(hop.dst, hop.dport)}{carried}"


def _end(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _place(hop: Hop) -> tuple[str, str, str]:
    return hop.owner, hop.interface, hop.direction


def _places(hops: Sequence[Hop]) -> list[tuple[str, str, str]]:
    return [_place(hop) for hop in hops]
