"""Counted nouns."""

from __future__ import annotations

import pytest

from netlab.counted import counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_one_is_singular(number: int, words: str) -> None:
    assert counted(number, "node") == words
