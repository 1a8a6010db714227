"""The style sheets: one for drawings, which has the colours and suffices for an SVG alone, and one for pages."""

from __future__ import annotations

from importlib import resources


def drawings() -> str:
    """Colours, and what is in an SVG."""
    return _read("drawing.css")


def pages() -> str:
    """All that a page needs."""
    return drawings() + _read("style.css")


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
