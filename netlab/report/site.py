"""A report on disk: a directory that can be moved, because it contains everything it needs.

index.html
NAME/NETWORK-PROXY-FAMILY.html       a run of a scenario
NAME/NETWORK-PROXY-FAMILY/*.pcapng   its packets
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from netlab.errors import NetlabError
from netlab.report import files
from netlab.report.captured import captured
from netlab.report.messages import lifeline, messages
from netlab.report.overview import most_telling, overviews
from netlab.report.picture import Picture
from netlab.report.scenarios import Link, Packets, Row, configuration, index_page, run_page
from netlab.scenario.definition import Scenario
from netlab.scenario.results import Result

INDEX = "index.html"


def write(directory: Path, scenarios: Sequence[Scenario], results: Sequence[Result], seconds: float) -> Path:
    """Write the report of these runs, which took `seconds` together. Returns the path of its index.

    Raises `UsageError` if it would replace something that is not a report, `NetlabError` when it cannot be written.
    """
    known = {scenario.name: scenario for scenario in scenarios}
    runs = {name: [result for result in results if result.name == name] for name in known}
    order = [name for name in known if runs[name]]
    pictures: dict[str, Picture] = {}
    for position, name in enumerate(order):
        for result in runs[name]:
            drawn = _write_run(
                directory, known[name], result,
                others=[each for each in runs[name] if each is not result],
                before=_beside(known, runs, order[position - 1] if position else None, result),
                after=_beside(known, runs, order[position + 1] if position + 1 < len(order) else None, result),
            )  # fmt: skip
            if drawn is not None:
                pictures.setdefault(name, drawn)
    rows = [
        Row(known[name], [(result, _address(result)) for result in runs[name]], pictures.get(name)) for name in order
    ]
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    index = directory / INDEX
    files.write_page(index, index_page(rows, seconds, when))
    return index


def _write_run(
    directory: Path,
    scenario: Scenario,
    result: Result,
    *,
    others: Sequence[Result],
    before: Link | None,
    after: Link | None,
) -> Picture | None:
    """Write the page of a run. Returns the picture at its top, if it has one."""
    packets = [_packets(directory, result, [Path(pcap) for pcap in check.pcaps]) for check in result.checks]
    text = run_page(
        result, scenario, packets,
        index=f"../{INDEX}",
        others=[Link(f"../{_address(other)}", configuration(other)) for other in others],
        before=before,
        after=after,
    )  # fmt: skip
    files.write_page(directory / _address(result), text)
    best = most_telling(each.overview for each in packets if each.overview)
    return best.picture if best else None


def _packets(directory: Path, result: Result, pcaps: Sequence[Path]) -> Packets:
    """Copy a check's captures into the report, and read them."""
    copies, troubles = [], []
    for pcap in pcaps:
        copy = directory / result.name / _folder(result) / pcap.name
        try:
            files.copy(pcap, copy)
        except NetlabError as error:
            troubles.append(str(error))
        else:
            copies.append(copy)
    found = captured(copies)
    told = messages(found.journeys, result.names, found.taps)
    seen = {stop.lifeline for message in told for stop in message.stops}
    silent = [f"{place.name} {place.where}" for place in map(lifeline, found.taps) if place not in seen]
    links = [f"{_folder(result)}/{copy.name}" for copy in copies]
    best = most_telling(overviews(found, told, result.names))
    return Packets(links, told, silent, [*troubles, *found.troubles], best)


def _beside(
    known: Mapping[str, Scenario], runs: Mapping[str, Sequence[Result]], name: str | None, result: Result
) -> Link | None:
    """The page of another scenario in the same kind of lab, or else in any."""
    if name is None:
        return None
    same = [each for each in runs[name] if configuration(each) == configuration(result)]
    return Link(f"../{_address((same or runs[name])[0])}", known[name].header.title)


def _folder(result: Result) -> str:
    return f"{result.network}-{result.proxy}-{result.family}"


def _address(result: Result) -> str:
    return f"{result.name}/{_folder(result)}.html"
