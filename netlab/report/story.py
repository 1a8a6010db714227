"""A scenario's README.md as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netlab.report.markup import Markup

if TYPE_CHECKING:
    from markdown_it.token import Token


def story(text: str) -> Markup:
    """Markdown as HTML, without its title, which the page has already.

    HTML in it is shown as text. Links that leave the page and are no web addresses would lead nowhere once the report
    is elsewhere, and pictures are fetched by nobody: of both the words stay.
    """
    from markdown_it import MarkdownIt  # 30 ms to import

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    if [token.type for token in tokens[:3]] == ["heading_open", "inline", "heading_close"] and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type == "inline":
            token.children = _plain(token.children or [])
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


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
