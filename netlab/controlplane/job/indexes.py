"""Sets of completion indexes, as a Job's status writes them: `0-2,5`."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.api.core_types import Pod

INDEX = "batch.kubernetes.io/job-completion-index"
"""The annotation and label of a pod with its index."""

FAILURES = "batch.kubernetes.io/job-index-failure-count"
"""The annotation of a pod: how many pods of its index have failed before it."""


def parse(text: str | None) -> set[int]:
    """The indexes of a text. Raises `ValueError`."""
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def write(indexes: Iterable[int]) -> str:
    """The text of a set of indexes: three or more in a row as a range."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def index_of(pod: Pod) -> int:
    """The index of a pod; -1 if it has none."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdecimal() else -1


def failures_of(pod: Pod) -> int:
    """How many pods of its index have failed before a pod."""
    text = pod.metadata.annotations.get(FAILURES, "")
    return int(text) if text.isdecimal() else 0
