"""How kubelets write what they name."""

from __future__ import annotations

import pytest

from netlab.node import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (1, "1s"), (1.5, "1.5s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s"), (7261, "2h1m1s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text
