"""What became of scenarios: the values that `netlab scenario run -o json` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

from netlab.errors import ChecksFailedError
from netlab.lab.spec import Family, LabSpec
from netlab.scenario.definition import Scenario, Traffic

Status = Literal["passed", "failed", "skipped"]

SEPARATOR = "; "
"""Between the several things that a check expects, or observed."""


class CheckResult(msgspec.Struct, frozen=True):
    """One check: what was expected and what was observed, in words; of a skipped one, why.

    `pcaps` are the absolute paths of its captures.
    """

    name: str
    status: Status
    expected: str
    observed: str
    pcaps: list[str] = []

    @property
    def statements(self) -> list[tuple[str, str]]:
        """What was expected beside what was observed, one thing at a time; empty where there is none."""
        pairs = zip_longest(self.expected.split(SEPARATOR), self.observed.split(SEPARATOR), fillvalue="")
        return [(expected, observed) for expected, observed in pairs if expected or observed]


class Result(msgspec.Struct, frozen=True):
    """One run of a scenario; `pcaps` are absolute paths, `names` says whose an address was."""

    name: str
    traffic: Traffic
    network: str
    proxy: str
    family: Family
    status: Status
    seconds: float
    checks: list[CheckResult]
    pcaps: list[str]
    names: dict[str, str] = {}


def result_of(
    scenario: Scenario,
    spec: LabSpec,
    family: Family,
    seconds: float,
    checks: Sequence[CheckResult],
    pcaps: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> Result:
    """A run's result: failed if any check failed, skipped if all were, else passed."""
    found = {check.status for check in checks}
    status: Status = "failed" if "failed" in found else "skipped" if found == {"skipped"} else "passed"
    return Result(
        name=scenario.name,
        traffic=scenario.header.traffic,
        network=spec.network,
        proxy=spec.proxy,
        family=family,
        status=status,
        seconds=round(seconds, 3),
        checks=list(checks),
        pcaps=list(pcaps),
        names=dict(names or {}),
    )


def without_verdict(scenario: Scenario, spec: LabSpec, family: Family, status: Status, reason: str) -> Result:
    """The result of a scenario none of whose checks was run, and why."""
    return result_of(
        scenario, spec, family, 0.0, [CheckResult(each.title, status, each.title, reason) for each in scenario.checks]
    )


def require_none_failed(results: Sequence[Result]) -> None:
    """Raise `ChecksFailedError` naming what failed."""
    failed = [f"{r.name} ({r.network}, {r.proxy}, {r.family})" for r in results if r.status == "failed"]
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise ChecksFailedError(f"{len(failed)} of {len(results)} failed: {', '.join(failed[:5])}{more}")
