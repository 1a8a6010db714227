"""The results of scenarios: the values that `netlab scenario run -o json` writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

from netlab.errors import CheckError, ChecksFailedError, NetlabError
from netlab.lab.spec import LabSpec
from netlab.net.addresses import Family
from netlab.scenario.definition import Scenario, Traffic

Status = Literal["passed", "failed", "error", "skipped"]
"""`error`: a check that could not run, which says nothing about the network."""

_WORST_FIRST: tuple[Status, ...] = ("failed", "error", "passed")
_TOLD: dict[Status, str] = {"failed": "failed", "error": "could not be carried out"}

SEPARATOR = "; "
"""Separates several expectations, or observations, of a check."""


class CheckResult(msgspec.Struct, frozen=True):
    """One check: what was expected and what was observed, in words; if skipped, why.

    `pcaps` are the absolute paths of its captures; `error` is what ended the check early, and where.
    """

    name: str
    status: Status
    expected: str
    observed: str
    pcaps: list[str] = []
    error: str = ""

    @property
    def statements(self) -> list[tuple[str, str]]:
        """Pairs of what was expected and what was observed; either may be empty."""
        pairs = zip_longest(self.expected.split(SEPARATOR), self.observed.split(SEPARATOR), fillvalue="")
        return [(expected, observed) for expected, observed in pairs if expected or observed]


class Result(msgspec.Struct, frozen=True):
    """One run of a scenario; `pcaps` are absolute paths, `names` has the owners of addresses."""

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
    """A run's result: the worst of its checks' (failed, error); skipped if all were, otherwise passed."""
    found = {check.status for check in checks}
    return Result(
        name=scenario.name,
        traffic=scenario.header.traffic,
        network=spec.network,
        proxy=spec.proxy,
        family=family,
        status=worst(found),
        seconds=round(seconds, 3),
        checks=list(checks),
        pcaps=list(pcaps),
        names=dict(names or {}),
    )


def without_verdict(scenario: Scenario, spec: LabSpec, family: Family, status: Status, reason: str) -> Result:
    """The result of a scenario of which no check ran, with the reason."""
    broken = status == "error"
    checks = [
        CheckResult(check.title, status, "", "", error=reason)
        if broken
        else CheckResult(check.title, status, check.title, reason)
        for check in scenario.checks
    ]
    return result_of(scenario, spec, family, 0.0, checks)


def worst(statuses: Collection[Status]) -> Status:
    """The verdict on several: a failure outweighs an error, and a pass outweighs a skip."""
    return next((status for status in _WORST_FIRST if status in statuses), "skipped")


def require_none_failed(results: Sequence[Result]) -> None:
    """Raise `ChecksFailedError` naming what failed, or else `CheckError` naming what could not run."""
    told = [part for status in _TOLD if (part := _told(results, status))]
    if told:
        kind: type[NetlabError] = ChecksFailedError if any(r.status == "failed" for r in results) else CheckError
        raise kind("; ".join(told))


def _told(results: Sequence[Result], status: Status) -> str:
    named = [f"{r.name} ({r.network}, {r.proxy}, {r.family})" for r in results if r.status == status]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return f"{len(named)} of {len(results)} {_TOLD[status]}: {', '.join(named[:5])}{more}" if named else ""
