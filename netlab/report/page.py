"""The frame of every page: one file, nothing fetched from anywhere, no script."""

from __future__ import annotations

from netlab.report import styles
from netlab.report.markup import Child, Markup, element

GENERATOR = "netlab"

# A second line of defence after the escaping: injected markup could neither run scripts nor load anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, *body: Child) -> str:
    """A whole HTML document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=GENERATOR),
        element("title", title),
        element("style", Markup(styles.pages())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', element('main', *body)), lang='en')}\n"


def badge(text: str, kind: str) -> Markup:
    """A verdict of one word or a few; `kind` is a class of the style sheet: good, bad, none."""
    return element("span", text, class_=f"badge {kind}")


def scrolled(content: Markup, label: str, least: float | None = None) -> Markup:
    """Put content that may be wider than the page into a scrollable box, which a keyboard can scroll too.

    A cue at the right edge shows that there is more. It needs no script: it sticks to the edge, and the end of the
    content covers it. Content that shrinks with the page has a `least` width in pixels.
    """
    cue = element("span", element("span", "›", class_="chevron"), class_="cue", aria_hidden="true")
    style = None if least is None else f"min-width:{least:.0f}px"
    inner = element("div", content, cue, class_="scrolled", style=style)
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def duration(nanoseconds: int) -> str:
    """Nanoseconds in a readable unit: `47 µs`, `1.20 ms`, `3.05 s`."""
    if abs(nanoseconds) < 1_000_000:
        return f"{nanoseconds / 1000:.0f} µs"
    if abs(nanoseconds) < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.2f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"
