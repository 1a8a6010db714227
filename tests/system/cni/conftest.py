"""What the tests of the plugins share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["one-shot", "resident"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test in both ways that a call can go, which `pods.runtime` arranges.

    `one-shot`: the executables do the work themselves. `resident`: a resident process does it for them.
    """
    monkeypatch.setenv("NETLAB_TEST_WAY", request.param)
    chosen: str = request.param
    return chosen
