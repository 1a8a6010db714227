"""Links in answers that come through the API server."""

from __future__ import annotations

import gzip

import pytest

from netlab.api.server.connect.links import Links, packed, unpacked

PREFIX = "/api/v1/namespaces/n/pods/p:80/proxy"
LINKS = Links.of(f"{PREFIX}/dir/page", "/dir/page", "10.0.0.1:80", "localhost:8001")


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("/a?b=c#d", f"{PREFIX}/a?b=c#d"),
        ("/a/", f"{PREFIX}/a/"),
        ("/", f"{PREFIX}/"),
        ("/../../api", f"{PREFIX}/api"),
        ("a/b", "a/b"),
        ("#top", "#top"),
        ("mailto:a@example.com", "mailto:a@example.com"),
        ("http://10.0.0.1:80/a", f"{PREFIX}/a"),
        ("https://localhost:8001/a", f"{PREFIX}/a"),
        (f"http://localhost:8001{PREFIX}/a", f"{PREFIX}/a"),
        ("//example.com/a", "//example.com/a"),
        ("http://example.com/a", "http://example.com/a"),
        ("http://[::1/a", "http://[::1/a"),
    ],
)
def test_a_link_to_the_same_host_leads_through_the_api_server(url: str, becomes: str) -> None:
    assert LINKS.url(url) == becomes


@pytest.mark.parametrize(
    ("page", "becomes"),
    [
        ('<a href="/rewriteme">test</a>', f'<a href="{PREFIX}/rewriteme">test</a>'),
        (
            "<!DOCTYPE html>\n<P>\n <IMG alt=é SRC='/a?x=1&amp;y' usemap=/m /> &nbsp; <b>",
            f'<!DOCTYPE html>\n<P>\n <img alt="é" src="{PREFIX}/a?x=1&amp;y" usemap="{PREFIX}/m"/> &nbsp; <b>',
        ),
        ('<a href="x">/y</a> <a name="/z">', '<a href="x">/y</a> <a name="/z">'),
        (
            '<!-- <a href="/a"> --> <script>"<a href=/b>"</script>',
            '<!-- <a href="/a"> --> <script>"<a href=/b>"</script>',
        ),
        ('\udcff <a disabled href="/\udcfe"', '\udcff <a disabled href="/\udcfe"'),
        ("<a href=/\r\n><form action='/b'\n>", f'<a href="{PREFIX}/"><form action="{PREFIX}/b">'),
    ],
)
def test_a_page_changes_in_its_links_alone(page: str, becomes: str) -> None:
    assert LINKS.page(page) == becomes


@pytest.mark.parametrize("encoding", ["", "identity", "gzip"])
def test_a_page_comes_packed_as_it_was(encoding: str) -> None:
    assert unpacked(packed(b"page", encoding), encoding, 100) == b"page"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x", "gzip"),
        (b"x", "br"),
        (gzip.compress(b"x" * 101, mtime=0), "gzip"),
        (gzip.compress(b"x" * 99, mtime=0)[:-9], "gzip"),
    ],
)
def test_what_cannot_be_unpacked_is_left_alone(body: bytes, encoding: str) -> None:
    assert unpacked(body, encoding, 100) is None
