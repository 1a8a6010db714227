"""Markup: no text becomes any."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.report.markup import Markup, element, escaped, join
from netlab.visible import visible
from tests.unit.report.dom import parsed

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</title></style></svg>&lt;b&gt;",
    "]]><!--",
    "\x1b[2J\u202e\u2066\x00\x7f",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_a_text(text: str) -> None:
    tree = parsed(element("p", text, title=text))
    assert [node.tag for node in tree] == ["p"]
    assert tree.text == visible(text)
    assert tree.one("p").attributes == {"title": visible(text)}


@given(st.text())
def test_every_text_is_one_node_whatever_it_is(text: str) -> None:
    markup = element("p", text, class_=text)
    assert markup.count("<") == 2
    assert len(parsed(markup).all("p")) == 1
    markup.encode()


def test_markup_is_not_escaped_again_but_in_attributes_it_is() -> None:
    assert escaped(element("b", "&")) == "<b>&amp;</b>"
    assert element("i", element("b", "x")) == "<i><b>x</b></i>"
    assert element("i", title=Markup('"<b>"')) == '<i title="&quot;&lt;b&gt;&quot;"></i>'


def test_what_is_not_seen_or_turns_the_text_around_it_is_shown_as_an_escape() -> None:
    assert escaped("a\u202eb\x00c\ud800d\u2066e\x1b[31m\n") == r"a\u202eb\x00c\ud800d\u2066e\x1b[31m\n"
    assert escaped("naïve → 北京") == html.escape("naïve → 北京")


def test_attributes_and_children() -> None:
    assert element("a", aria_label="x", class_="y", hidden=True, title=None, open=False) == (
        '<a aria-label="x" class="y" hidden></a>'
    )
    assert element("p", "a", None, ["b", ("c", [1])]) == "<p>abc1</p>"
    assert element("br") == "<br>"
    assert join(["<", element("b")]) == "&lt;<b></b>"
