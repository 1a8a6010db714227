from __future__ import annotations

from fractions import Fraction

import pytest

from netlab.api.quantities import parse, read

AMOUNTS = [
    ("0", 0),
    ("10", 10),
    ("500m", Fraction(1, 2)),
    ("1.5Gi", 3 * 1024**3 // 2),
    (".5", Fraction(1, 2)),
    ("5.", 5),
    ("2e6", 2_000_000),
    ("1E3", 1_000),
    ("1E", 10**18),
    ("1Ei", 1024**6),
    ("100n", Fraction(1, 10**7)),
    ("-3k", -3_000),
    ("+1M", 1_000_000),
]


@pytest.mark.parametrize(("text", "amount"), AMOUNTS)
def test_amounts(text: str, amount: int | Fraction) -> None:
    assert parse(text) == amount


@pytest.mark.parametrize("text", ["", " 1", "fast", "1 M", "1K", "1kb", "1e", "1e999", ".", "1_0", "0x1", "1" * 99])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1500m", "1500m"),
        ("0.1", "100m"),
        ("2000m", "2"),
        ("100000000", "100M"),
        ("1024Ki", "1Mi"),
        ("1536Ki", "1536Ki"),
        ("512", "512"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1.5Gi", "1536Mi"),
        ("0.1n", "1n"),
        ("-2k", "-2k"),
    ],
)
def test_how_a_quantity_is_written(text: str, canonical: str) -> None:
    assert str(read(text)) == canonical


@pytest.mark.parametrize(
    ("one", "other", "total"), [("1Mi", "1M", "2048576"), ("0", "1Mi", "1Mi"), ("1", "1Mi", "1048577")]
)
def test_a_sum_is_written_as_the_first(one: str, other: str, total: str) -> None:
    assert str(read(one) + read(other)) == total
