"""A page as a tree, checked on the way: every element is closed where it was opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser

_VOID = {"br", "link", "meta"}


@dataclasses.dataclass
class Node:
    """An element; its children are elements and texts."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = dataclasses.field(default_factory=list)

    def __iter__(self) -> Iterator[Node]:
        """All elements beneath this one, in order."""
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str, class_: str = "") -> list[Node]:
        """The elements beneath it with this tag, and with this class among theirs."""
        wanted = set(class_.split())
        return [node for node in self if node.tag == tag and wanted <= set(node.attributes.get("class", "").split())]

    def one(self, tag: str, class_: str = "") -> Node:
        found = self.all(tag, class_)
        assert len(found) == 1, f"{len(found)} of {tag} {class_}"
        return found[0]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(page: str) -> Node:
    """The tree of a page or of a part of one."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert [node.tag for node in parser.open] == [""], "something is not closed"
    return parser.open[0]


def assert_sound(page: str) -> Node:
    """It needs nothing but itself, each id is there once, and each link within it leads somewhere."""
    tree = parsed(page)
    ids = [node.attributes["id"] for node in tree if "id" in node.attributes]
    assert len(ids) == len(set(ids)), sorted(ids)
    assert tree.all("script") == []
    assert [node for node in tree if "src" in node.attributes or node.tag == "link"] == []
    assert [node for node in tree for name in node.attributes if name.startswith("on")] == []
    for node in tree.all("a"):
        href = node.attributes["href"]
        assert not href.startswith("#") or href[1:] in ids, href
    for node in tree:
        for name in node.attributes.get("aria-labelledby", "").split():
            assert name in ids
        marker = node.attributes.get("marker-end", "")
        assert not marker or marker.removeprefix("url(#").removesuffix(")") in ids
    return tree
