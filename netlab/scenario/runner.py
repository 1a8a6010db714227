"""Runs scenarios in a lab: each in its own Namespace, its checks in order, and nothing left behind."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec

from netlab.api.apply import apply
from netlab.api.blocking import BlockingClient
from netlab.api.cluster import read
from netlab.api.errors import ApiError
from netlab.api.resources import NAMESPACES
from netlab.errors import NetlabError, TimedOutError, UnsupportedError
from netlab.lab.lab import Lab
from netlab.lab.names import Names
from netlab.lab.waiting import Target, wait_gone
from netlab.net.addresses import Family
from netlab.scenario.checks import Check
from netlab.scenario.context import Context
from netlab.scenario.definition import Scenario, line_of
from netlab.scenario.interruption import uninterrupted
from netlab.scenario.outcomes import CheckFailed, CheckSkipped
from netlab.scenario.results import SEPARATOR, CheckResult, Result, Status, result_of, without_verdict

_DELETE_TIMEOUT = 60.0


class Observer:
    """Is called as things happen. This one does nothing."""

    def began(self, scenario: Scenario, lab: Lab, family: Family) -> None:
        """A scenario begins."""

    def checking(self, check: Check) -> None:
        """A check begins."""

    def checked(self, result: CheckResult) -> None:
        """A check ended."""

    def ended(self, result: Result) -> None:
        """A scenario ended."""


def run(
    scenarios: Iterable[Scenario], lab: Lab, pcap_dir: Path, observer: Observer, *, keep: bool = False
) -> list[Result]:
    """Run scenarios one after another in a lab that is up, in each of its families.

    With `keep` their objects stay. Raises `NetlabError` when the lab itself fails; a scenario's errors are in its
    result.
    """
    return [
        run_one(scenario, lab, family, pcap_dir, observer, keep=keep)
        for scenario in scenarios
        for family in lab.spec().families
    ]


def run_one(
    scenario: Scenario, lab: Lab, family: Family, pcap_dir: Path, observer: Observer, *, keep: bool = False
) -> Result:
    """Run a scenario once."""
    spec = lab.spec()
    observer.began(scenario, lab, family)
    lacking = scenario.header.lacking(spec, family)
    if lacking:
        result = without_verdict(scenario, spec, family, "skipped", f"it needs {lacking}")
        for each in result.checks:
            observer.checked(each)
        observer.ended(result)
        return result
    began = time.monotonic()
    directory = (pcap_dir / scenario.name / f"{spec.network}-{spec.proxy}-{family}").absolute()
    with _staged(scenario, lab, keep=keep) as namespace:
        context = Context(lab, namespace, family, directory)
        checks = []
        names: dict[str, str] = {}
        with contextlib.closing(context):
            for check in scenario.checks:
                observer.checking(check)
                taken = len(context.pcaps)
                # Before and after, because a check may create and delete pods.
                names |= _names(lab, namespace)
                done = _run_check(check, context, scenario)
                names |= _names(lab, namespace)
                captured = [str(path) for path in context.pcaps[taken:]]
                checks.append(msgspec.structs.replace(done, pcaps=captured))
                observer.checked(checks[-1])
        pcaps = [str(path) for path in context.pcaps]
    result = result_of(scenario, spec, family, time.monotonic() - began, checks, pcaps, names)
    observer.ended(result)
    return result


def _names(lab: Lab, namespace: str) -> dict[str, str]:
    """The names of the machines, and of a Namespace's pods and Services, by their current addresses."""
    names = Names(read(lab.client(), namespace=namespace), lab.spec().outside_addresses)
    return {address: name.removeprefix(f"{namespace}/") for address, name in names.known().items()}


def _run_check(check: Check, context: Context, scenario: Scenario) -> CheckResult:
    context.begin(check.name)
    try:
        check.function(context)
        if context.expected:
            return _result(check, "passed", context)
        return _broken(check, context, "the check states no expectation (ctx.expect)")
    except CheckFailed:
        return _result(check, "failed", context)
    except (CheckSkipped, UnsupportedError) as reason:
        return CheckResult(check.title, "skipped", check.title, str(reason))
    except TimedOutError as error:
        return _result(check, "failed", context, str(error))
    except Exception as error:
        # Not a verdict on the network: a mistake in the check, which may be the user's own, or something the lab lacks.
        path = scenario.folder / "checks.py"
        kind = "" if isinstance(error, NetlabError) else f"{type(error).__name__}: "
        return _broken(check, context, f"{kind}{error} ({path}{line_of(error, path)})")


def _broken(check: Check, context: Context, error: str) -> CheckResult:
    expected, observed = SEPARATOR.join(context.expected), SEPARATOR.join(context.observed)
    return CheckResult(check.title, "error", expected, observed, error=error)


def _result(check: Check, status: Status, context: Context, trouble: str = "") -> CheckResult:
    expected = SEPARATOR.join(context.expected) or check.title
    observed = SEPARATOR.join([*context.observed, *([trouble] if trouble else [])])
    return CheckResult(check.title, status, expected, observed)


@contextlib.contextmanager
def _staged(scenario: Scenario, lab: Lab, *, keep: bool) -> Iterator[str]:
    """Create the scenario's objects in a new Namespace, for the duration of the block. Gives the Namespace's name."""
    client = lab.client()
    namespace = f"{scenario.name}-{secrets.token_hex(3)}"
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    try:
        apply(client, [document, *scenario.manifests], namespace, lambda _: None)
        yield namespace
    finally:
        if not keep:
            with uninterrupted():
                _delete(client, Target(NAMESPACES, "", namespace))


def _delete(client: BlockingClient, target: Target) -> None:
    """Delete it with everything in it, unless it is gone, and wait until it is."""
    try:
        client.request("DELETE", target.path)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
    wait_gone(client, [target], _DELETE_TIMEOUT)
