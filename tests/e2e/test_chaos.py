"""Processes of a lab die, and nothing that was promised is broken; `python -m benchmarks.chaos` does so for minutes."""

from __future__ import annotations

import random
import shutil

from tests.e2e import chaos
from tests.e2e.conftest import Netlab

ROUNDS = 6


def test_nothing_hangs_and_nothing_acknowledged_is_lost(netlab: Netlab) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown if it fails
    found = chaos.run(
        netlab, "etcd" if shutil.which("etcd") else "sqlite", lambda so_far: len(so_far.kills) < ROUNDS, seed
    )
    assert found.acknowledged
    assert found.calls
