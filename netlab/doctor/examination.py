"""Running checks: in a child process, which enters namespaces of its own on the way; they disappear with it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from netlab.errors import NetlabError
from netlab.net import syscalls

Status = Literal["passed", "failed", "lacking", "untried"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that netlab needs.

    `probe` tries it and returns what it found, or raises `NetlabError` or `OSError`. A probe may move the examining
    process to where later checks can be tried. It is only tried if the checks named in `after` have passed.
    If it is not `required`, its failure only costs what `cost` says.
    """

    name: str
    probe: Callable[[], str]
    cost: str
    remedy: str
    required: bool = True
    after: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of a check: failed if it is required, lacking if not; untried if another did not pass."""

    check: Check
    status: Status
    found: str


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Try the checks in order. The calling process, which must be single-threaded, stays where it is."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        os.close(read_end)
        try:
            _try_all(checks, write_end)
        finally:
            # Not sys.exit: buffers and exit handlers belong to the parent.
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as lines:
        reports = [json.loads(line) for line in lines]
    os.waitpid(child, 0)
    return conclude(checks, {report["name"]: (report["passed"], report["found"]) for report in reports})


def conclude(checks: Sequence[Check], reports: Mapping[str, tuple[bool, str]]) -> list[Finding]:
    """The findings that follow from the reports: by the check's name, whether it passed, and what was found."""
    passed = {name for name, (good, _) in reports.items() if good}
    findings = []
    for check in checks:
        status: Status = "passed" if check.name in passed else "failed" if check.required else "lacking"
        _, found = reports.get(check.name, (False, "the check itself crashed"))
        wanting = [name for name in check.after if name not in passed]
        if wanting:
            status, found = "untried", f"needs {wanting[0]}"
        findings.append(Finding(check, status, found))
    return findings


def _try_all(checks: Sequence[Check], report: int) -> None:
    passed: set[str] = set()
    for check in checks:
        if not passed.issuperset(check.after):
            continue
        try:
            found = check.probe()
            passed.add(check.name)
        except (NetlabError, OSError) as error:
            found = str(error)
        # A line at a time: a probe that takes this process down leaves the earlier reports.
        line = json.dumps({"name": check.name, "passed": check.name in passed, "found": found}) + "\n"
        os.write(report, line.encode())
