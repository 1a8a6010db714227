"""HTML and SVG as values: every text is escaped when it is inserted, so that no name can become markup."""

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
    """A text escaped for content and for attributes; `Markup` stays as it is.

    Characters that a page must not contain (controls, HTML 13.2.3.5), or that change the direction of the text around
    them, are shown as escapes.
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(visible(str(text))))


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. `_` in an attribute's name becomes `-` (`class_` is `class`); None and False are omitted."""
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
