"""agnhost, placeholder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netlab.machine.images import pause


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """To come."""
    return pause.main(argv, env)
