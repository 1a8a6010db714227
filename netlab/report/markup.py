"""HTML and SVG as values: every text is escaped where it is put in, so that no name can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from netlab.visible import visible


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"

_VOID = frozenset({"br", "link", "meta"})


def escaped(text: object) -> Markup:
    """A text as HTML that shows it, in content and in attributes alike; `Markup` as it is.

    What a page must not hold (controls, HTML 13.2.3.5) or what turns the text around it is shown as an escape.
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(visible(str(text))))


def by_line(text: str) -> str:
    """A text of several lines in which everything can be seen; lines and tabs stay."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. An attribute's `_` is a `-` (`class_` is `class`); those that are None or False are left out."""
    head = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Elements and texts one after another."""
    return Markup("".join(_content(child) for child in children))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(str(value))}"'


def _content(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, str | int):
        return escaped(child)
    return join(child)
