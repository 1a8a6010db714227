"""Results: what a run of checks amounts to, as JSON and as an account for people."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from netlab.errors import CheckError, ChecksFailedError
from netlab.lab.spec import LabSpec
from netlab.scenario.definition import Scenario, load
from netlab.scenario.report import Account
from netlab.scenario.results import CheckResult, Result, Status, require_none_failed, result_of, without_verdict
from tests.unit.scenario.test_definition import make

SPEC = LabSpec(network="routed", proxy="iptables", families=["IPv6"])


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return load(make(tmp_path / "mine"))


def checks(*statuses: Status) -> list[CheckResult]:
    return [CheckResult(f"check {index}", status, "one", "two") for index, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("passed", "passed"), "passed"),
        (("passed", "skipped"), "passed"),
        (("passed", "failed", "skipped"), "failed"),
        (("passed", "error", "skipped"), "error"),
        (("error", "failed"), "failed"),
        (("skipped", "skipped"), "skipped"),
    ],
)
def test_a_scenario_is_what_its_checks_are(scenario: Scenario, statuses: tuple[Status, ...], expected: Status) -> None:
    assert result_of(scenario, SPEC, "IPv6", 1.0, checks(*statuses)).status == expected


def test_the_json_has_these_fields(scenario: Scenario) -> None:
    result = result_of(scenario, SPEC, "IPv6", 1.23456, checks("passed"), ["/x/a.pcap"], {"192.0.2.1": "node-1"})
    assert msgspec.to_builtins(result) == {
        "name": "mine",
        "traffic": "pod-to-pod",
        "network": "routed",
        "proxy": "iptables",
        "family": "IPv6",
        "status": "passed",
        "seconds": 1.235,
        "checks": [
            {"name": "check 0", "status": "passed", "expected": "one", "observed": "two", "pcaps": [], "error": ""}
        ],
        "pcaps": ["/x/a.pcap"],
        "names": {"192.0.2.1": "node-1"},
    }


def test_checks_that_were_not_run_say_why(scenario: Scenario) -> None:
    result = without_verdict(scenario, SPEC, "IPv6", "skipped", "there is no VXLAN here")
    assert result.status == "skipped"
    assert result.checks == [CheckResult("It holds", "skipped", "It holds", "there is no VXLAN here")]
    result = without_verdict(scenario, SPEC, "IPv6", "error", "the lab is gone")
    assert (result.status, result.checks) == (
        "error",
        [CheckResult("It holds", "error", "", "", error="the lab is gone")],
    )


def test_what_failed_is_named(scenario: Scenario) -> None:
    passed, failed = (result_of(scenario, SPEC, "IPv6", 1.0, checks(s)) for s in ("passed", "failed"))
    require_none_failed([passed, passed])
    with pytest.raises(ChecksFailedError, match=r"1 of 2 failed: mine \(routed, iptables, IPv6\)$"):
        require_none_failed([passed, failed])
    with pytest.raises(ChecksFailedError, match=r"7 of 7 failed: .* and 2 more$"):
        require_none_failed([failed] * 7)


def test_an_error_is_no_failure(scenario: Scenario) -> None:
    failed, broken = (result_of(scenario, SPEC, "IPv6", 1.0, checks(s)) for s in ("failed", "error"))
    with pytest.raises(CheckError, match=r"^1 of 1 could not be carried out: mine \(routed, iptables, IPv6\)$"):
        require_none_failed([broken])
    with pytest.raises(ChecksFailedError, match=r"^1 of 2 failed: mine .*; 1 of 2 could not be carried out: mine "):
        require_none_failed([broken, failed])


class _Silent:
    def __call__(self, text: str) -> None: ...

    def done(self) -> float:
        return 0.0


def _account() -> tuple[Account, io.StringIO]:
    text = io.StringIO()
    return Account(Console(file=text, width=40, highlight=False), _Silent()), text


def test_the_account_shows_each_expectation_on_a_line_and_differences_on_two() -> None:
    account, text = _account()
    account.checked(CheckResult("The first", "passed", "a: 1; b: 2", "a: 1; b: 2"))
    account.checked(CheckResult("The second", "failed", "a: 1; b: 2", "a: 1; b: 3"))
    account.checked(CheckResult("The third", "skipped", "The third", "there is no tcpdump"))
    account.checked(CheckResult("The fourth", "error", "a: 1", "a: 1", error="KeyError: 'x' (checks.py:3)"))
    assert text.getvalue().splitlines() == [
        "  ✓ The first",
        "      a: 1",
        "      b: 2",
        "  ✗ The second",
        "      a: 1",
        "      expected  b: 2",
        "      observed  b: 3",
        "  – The third",
        "      skipped   there is no tcpdump",
        "  ! The fourth",
        "      a: 1",
        "      error     KeyError: 'x' (checks.py:3)",
    ]


def test_a_terminal_gets_lines_broken_between_words() -> None:
    text = io.StringIO()
    account = Account(Console(file=text, width=30, force_terminal=True, color_system=None, highlight=False), _Silent())
    account.checked(
        CheckResult("A title of more than thirty cells", "failed", "a: 1; it is short", "a: 1; it is not so")
    )
    assert text.getvalue().splitlines() == [
        "  ✗ A title of more than",
        "    thirty cells",
        "      a: 1",
        "      expected  it is short",
        "      observed  it is not so",
    ]
    text.truncate(text.seek(0))
    account.checked(CheckResult("T", "passed", "10.244.1.4:26114 > 10.96.1.2:80", "10.244.1.4:26114 > 10.96.1.2:80"))
    assert text.getvalue().splitlines() == ["  ✓ T", "      10.244.1.4:26114 >", "      10.96.1.2:80"]


def test_a_pipe_gets_a_line_for_a_line_and_markup_is_shown_as_it_is() -> None:
    account, text = _account()
    observed = f"10.0.0.1:20000 > 10.0.0.2:80 TCP [S] {'x' * 100} [bold]"
    account.checked(CheckResult("Check [red]", "passed", observed, observed))
    assert text.getvalue().splitlines() == ["  ✓ Check [red]", f"      {observed}"]


def test_the_account_of_a_matrix_tells_more_only_of_what_failed(scenario: Scenario) -> None:
    account, text = _account()
    account.told(result_of(scenario, SPEC, "IPv6", 1.04, checks("passed", "passed")))
    account.told(result_of(scenario, SPEC, "IPv6", 2.0, checks("passed", "failed")))
    account.told(without_verdict(scenario, SPEC, "IPv6", "skipped", "there is no VXLAN here"))
    assert [" ".join(line.split()) for line in text.getvalue().splitlines()] == [
        "✓ routed iptables IPv6 mine 2 of 2 checks, 1.0 s",
        "✗ routed iptables IPv6 mine 1 of 2 checks, 2.0 s",
        "✗ check 1",
        "expected one",
        "observed two",
        "– routed iptables IPv6 mine 0 of 1 checks, 0.0 s",
        "skipped there is no VXLAN here",
    ]


def test_the_summary_counts(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    account, text = _account()
    results: list[Result] = [result_of(scenario, SPEC, "IPv6", 1.0, checks(s)) for s in ("passed", "failed", "error")]
    account.summary(results, 12.34, Path("out"))
    assert text.getvalue() == (
        "\n3 runs: 1 passed, 1 failed, 1 error in 12.3 s; packets in out/ (tshark -r FILE, or Wireshark)\n"
    )
