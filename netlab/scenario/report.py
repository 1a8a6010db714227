"""Reports a run to people, on a terminal or in a pipe, line by line as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.text import Text

from netlab.counted import counted
from netlab.lab.lab import Lab
from netlab.net.addresses import Family
from netlab.scenario.checks import Check
from netlab.scenario.definition import Scenario
from netlab.scenario.results import CheckResult, Result, Status, worst
from netlab.scenario.runner import Observer
from netlab.visible import visible_lines

_MARKS: dict[Status, tuple[str, str]] = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "error": ("!", "bold magenta"),
    "skipped": ("–", "yellow"),
}


_NARROWEST = 20
"""In less room than this many cells, words are not kept whole."""


class Progress(Protocol):
    """One line that says what is going on; the next one replaces it, and `done` clears it."""

    def __call__(self, text: str) -> None:
        """Replace the line."""

    def done(self) -> float:
        """Clear the line."""


class Account(Observer):
    """Writes what happens to a console."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._name = ""

    def began(self, scenario: Scenario, lab: Lab, family: Family) -> None:
        """Write its title, and where it runs."""
        spec = lab.spec()
        self._name = scenario.name
        self._print()
        self._print((scenario.name, "bold"), f"  {scenario.header.title}")
        self._print((f"  {spec.network}, {spec.proxy}, {family}; lab {lab.name}, {counted(spec.nodes, 'node')}", "dim"))
        self._progress(f"{scenario.name}: making its objects")

    def checking(self, check: Check) -> None:
        """Write a line that will be cleared."""
        self._progress(f"{self._name}: {check.title}")

    def checked(self, result: CheckResult) -> None:
        """Write the check with what was expected and observed."""
        self._progress.done()
        self._print("  ", _MARKS[result.status], f" {result.name}", margin=4)
        if result.status == "skipped":
            self._print("      ", ("skipped   ", "dim"), result.observed, margin=16)
            return
        for expected, observed in result.statements:
            if expected == observed:
                self._print("      ", observed, margin=6)
                continue
            if expected:
                self._print("      ", ("expected  ", "dim"), expected, margin=16)
            if observed:
                self._print("      ", ("observed  ", "dim"), observed, margin=16)
        if result.error:
            self._print("      ", ("error     ", "dim"), result.error, margin=16)

    def ended(self, result: Result) -> None:
        """Write its verdict, duration and capture files."""
        self._progress.done()
        passed = sum(check.status == "passed" for check in result.checks)
        verdict = f"{passed} of {len(result.checks)} checks passed in {result.seconds:.1f} s"
        self._print("  ", (verdict, _MARKS[result.status][1]))
        if result.pcaps:
            files = [Path(path) for path in result.pcaps]
            names = " ".join(file.name for file in files)
            self._print("  ", ("packets in ", "dim"), f"{_short(files[0].parent)}/: {names}", margin=4)

    def told(self, result: Result) -> None:
        """Write a line for one run of a matrix, and more only if it did not pass."""
        self._progress.done()
        where = f"{result.network:<7} {result.proxy:<9} {result.family}"
        passed = sum(check.status == "passed" for check in result.checks)
        self._print(
            _MARKS[result.status],
            f" {where}  {result.name:<24} {passed} of {len(result.checks)} checks, {result.seconds:.1f} s",
        )
        for check in result.checks:
            if check.status in ("failed", "error"):
                self.checked(check)
        if result.status == "skipped":
            self._print("      ", ("skipped   ", "dim"), result.checks[0].observed, margin=16)

    def summary(self, results: Sequence[Result], seconds: float, pcap_dir: Path) -> None:
        """Write the last line."""
        self._progress.done()
        counts = {status: sum(result.status == status for result in results) for status in _MARKS}
        parts = [f"{count} {status}" for status, count in counts.items() if count]
        self._print()
        self._print(
            (f"{counted(len(results), 'run')}: {', '.join(parts)}", _MARKS[worst([r.status for r in results])][1]),
            f" in {seconds:.1f} s; packets in {_short(pcap_dir)}/ (tshark -r FILE, or Wireshark)",
        )

    def _print(self, *parts: str | tuple[str, str], margin: int = 0) -> None:
        """Write a line. On a terminal it wraps between words, and continues after the first `margin` cells."""
        shown = [visible_lines(each) if isinstance(each, str) else (visible_lines(each[0]), each[1]) for each in parts]
        line = Text.assemble(*shown)
        room = self._console.width - margin
        if not self._console.is_terminal or room < _NARROWEST:  # a pipe gets unwrapped lines
            self._console.print(line, soft_wrap=True)
            return
        head, rest = line.divide([margin])
        for index, each in enumerate(rest.wrap(self._console, room)):
            each.rstrip()
            self._console.print(Text.assemble(" " * margin if index else head, each), soft_wrap=True)


def _short(path: Path) -> Path:
    """A path, relative to the current directory if it is below it."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
