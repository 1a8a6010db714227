"""Links in what a server answers through the API server: those to its own host lead through the API server again.

As apimachinery's util/proxy, Transport. Pure.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from posixpath import normpath
from urllib.parse import urlsplit

_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("a", "area", "base", "link"), ("href",)),
    **dict.fromkeys(("audio", "embed", "script", "source"), ("src",)),
    **dict.fromkeys(("blockquote", "del", "ins", "q"), ("cite",)),
    **dict.fromkeys(("frame", "iframe"), ("longdesc", "src")),
    "applet": ("codebase",),
    "body": ("background",),
    "button": ("formaction",),
    "command": ("icon",),
    "form": ("action",),
    "head": ("profile",),
    "html": ("manifest",),
    "img": ("longdesc", "src", "usemap"),
    "input": ("src", "usemap", "formaction"),
    "object": ("classid", "codebase", "data", "usemap"),
    "video": ("poster", "src"),
}
"""The attributes that hold a URL, by element (HTML 4.01's and HTML 5's indices of attributes)."""


@dataclass(frozen=True)
class Links:
    """How a server's links are changed: to lead to `prefix`, if they are absolute paths or name one of its `hosts`."""

    prefix: str
    hosts: frozenset[str]

    @classmethod
    def of(cls, request_path: str, server_path: str, *hosts: str) -> Links:
        """For a request to the API server that is passed on to a server with the path `server_path`."""
        return cls(request_path.removesuffix(server_path), frozenset(hosts))

    def url(self, text: str) -> str:
        """A URL as the client is to see it; one that is none stays as it is."""
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if not parts.path.startswith("/") or parts.netloc not in ("", *self.hosts):
            return text
        path = parts.path
        if not path.startswith(self.prefix):
            path = f"{self.prefix}{normpath(path)}" + ("/" if path.endswith("/") and path != "/" else "")
        return parts._replace(scheme="", netloc="", path=path).geturl()

    def page(self, page: str) -> str:
        """A page of HTML; all but the elements that change stays as it is."""
        parser = _Elements(page, self)
        parser.feed(page)
        parser.close()
        kept, position = [], 0
        for start, end, element in parser.changed:
            kept += [page[position:start], element]
            position = end
        return "".join((*kept, page[position:]))


class _Elements(HTMLParser):
    """Collects the start tags that change: where each begins and ends, and what it becomes."""

    def __init__(self, page: str, links: Links) -> None:
        super().__init__(convert_charrefs=False)
        self.changed: list[tuple[int, int, str]] = []
        self._links = links
        self._lines = [0, *itertools.accumulate(len(line) + 1 for line in page.split("\n"))]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        names = _ATTRIBUTES.get(tag, ())
        became = [(name, self._links.url(value) if value and name in names else value) for name, value in attrs]
        if became != list(attrs):
            raw = self.get_starttag_text() or ""
            line, column = self.getpos()
            start = self._lines[line - 1] + column
            words = [tag, *(name if value is None else f'{name}="{escape(value)}"' for name, value in became)]
            self.changed.append((start, start + len(raw), f"<{' '.join(words)}{'/>' if raw.endswith('/>') else '>'}"))


def unpacked(body: bytes, encoding: str, limit: int) -> bytes | None:
    """The page in a body with a Content-Encoding; None if it is not known, wrong, or larger than `limit` bytes."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        return None
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        page = unpacker.decompress(body, limit)
    except zlib.error:
        return None
    return page if unpacker.eof else None


def packed(page: bytes, encoding: str) -> bytes:
    """A page as the body that `unpacked` makes it of."""
    return gzip.compress(page, mtime=0) if encoding == "gzip" else page
