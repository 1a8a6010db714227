"""The style sheets: one for drawings, which has the colours and is enough for an SVG alone, and one for pages."""

from __future__ import annotations

from importlib import resources


def drawings() -> str:
    """The style of an SVG, and the colours."""
    return _read("drawing.css")


def pages() -> str:
    """Everything that a page needs."""
    return drawings() + _read("style.css")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
