"""Lines fit the terminal; names give way, addresses do not."""

from __future__ import annotations

import pytest

from netlab.cli.wrapping import duration, shortened, wrapped

_RULE = "rule of ip kube-proxy refuse: ip daddr @cluster-ips reject"


@pytest.mark.parametrize("columns", [20, 40, 60, 200, 0])
def test_a_text_is_broken_between_words_alone(columns: int) -> None:
    found = list(wrapped(f"  by {_RULE}", columns, 4))
    assert " ".join(" ".join(found).split()) == f"by {_RULE}"
    assert all(len(line) <= columns for line in found) or not columns
    assert found[0].startswith("  by")
    assert all(line.startswith("    ") and line[4] != " " for line in found[1:])
    assert len(found) == 1 or columns not in (0, 200)


def test_a_word_that_is_too_wide_has_a_line_of_its_own() -> None:
    assert list(wrapped("to [2001:db8:1:2:3:4:5:6]:30080 now", 12, 2)) == [
        "to",
        "  [2001:db8:1:2:3:4:5:6]:30080",
        "  now",
    ]


@pytest.mark.parametrize(
    ("parts", "columns", "expected"),
    [
        (["outside", "node-1:30080"], 19, ["outside", "node-1:30080"]),
        (["outside", "web-5d4f9c-x2x7p:8080"], 25, ["outside", "web-5d…x2x7p:8080"[:18]]),
        (["web-5d4f9c-x2x7p", "svc/a-rather-long-name:80"], 0, ["web-5d4f9c-x2x7p", "svc/a-rather-long-name:80"]),
        (["[2001:db8::1:2:3]:80", "192.0.2.253:30080", "fd00:10:244::2"], 10, None),
    ],
)
def test_names_are_cut_in_the_middle_and_addresses_never(
    parts: list[str], columns: int, expected: list[str] | None
) -> None:
    found = shortened(parts, columns)
    if expected is None or not columns:
        assert found == parts
        return
    assert sum(map(len, found)) <= columns
    for before, after in zip(parts, found, strict=True):
        head, mark, tail = after.partition("…")
        assert before == after or (before.startswith(head) and mark and before.endswith(tail))


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 µs"), (85_400, "85 µs"), (3_140_000, "3.1 ms"), (42_000_000, "42 ms"), (1_500_000_000, "1.5 s")],
)
def test_a_time_is_in_the_unit_that_suits_it(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
