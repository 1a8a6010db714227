"""A scenario's README.md as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netlab.report import page
from netlab.report.markup import Markup, element
from netlab.visible import visible_lines

if TYPE_CHECKING:
    from markdown_it.token import Token


def story(text: str) -> tuple[Markup, Markup]:
    """Markdown as HTML: its first paragraph, and the rest. The title is left out, as the page has it already.

    HTML in it is shown as text. Links to files would be broken once the report is moved, and pictures are not copied:
    only their text stays.
    """
    from markdown_it import MarkdownIt  # 30 ms to import

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("fence", _code)
    markdown.add_render_rule("code_block", _code)
    tokens = markdown.parse(visible_lines(text.replace("\r\n", "\n")))
    if [token.type for token in tokens[:3]] == ["heading_open", "inline", "heading_close"] and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type == "inline":
            token.children = _plain(token.children or [])
    end = _lead(tokens)
    lead, rest = (markdown.renderer.render(part, markdown.options, {}) for part in (tokens[:end], tokens[end:]))
    return Markup(lead), Markup(rest)


def _code(renderer: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return page.scrolled(element("pre", element("code", Markup(html.escape(tokens[index].content)))), "code")


def _lead(tokens: Sequence[Token]) -> int:
    """Where the first paragraph ends. Its final colon becomes a full stop, because what follows is elsewhere."""
    if [token.type for token in tokens[:1]] != ["paragraph_open"]:
        return 0
    last = (tokens[1].children or [])[-1:]
    if last and last[0].content.endswith(":"):
        last[0].content = f"{last[0].content[:-1]}."
    return 3


def _plain(tokens: list[Token]) -> list[Token]:
    """Inline tokens without pictures, and without links to files."""
    kept: list[Token] = []
    dropped = False
    for token in tokens:
        if token.type == "link_open":
            dropped = not str(token.attrGet("href")).startswith(("https://", "http://", "#"))
        if token.type == "image":
            token.type, token.tag, token.children = "text", "", None
        if not (dropped and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept
