"""HTML and SVG as values: every text is escaped where it is put in, so that no name can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"

_VOID = frozenset({"br", "link", "meta"})

# What a page must not hold (controls, HTML 13.2.3.5), and what turns the order of the text around it: a name that is
# read on the wire or given by a user would show as another.
_UNSEEN = [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)]
_TURNING = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_REPLACED = dict.fromkeys([*_UNSEEN, *_TURNING], "\N{REPLACEMENT CHARACTER}")


def escaped(text: object) -> Markup:
    """A text as HTML that shows it, in content and in attributes alike; `Markup` as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(str(text).translate(_REPLACED)))


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
