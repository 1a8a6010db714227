"""The labs in which scenarios run: temporary ones, alone or as a matrix, removed afterwards whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, get_args

import msgspec

from netlab import doctor
from netlab.errors import NetlabError, UnsupportedError
from netlab.lab import lifecycle
from netlab.lab.lab import Lab
from netlab.lab.spec import LabSpec, Network, ProxyMode
from netlab.net import syscalls
from netlab.net.addresses import Family
from netlab.scenario.definition import Scenario
from netlab.scenario.interruption import interruptible, uninterrupted
from netlab.scenario.results import Result, Status, without_verdict
from netlab.scenario.runner import Observer, run

_LABS_PER_PROCESSOR = 2
"""Labs per processor: a run spends half of its time waiting for probes, kube-proxy's next sync, or missing answers."""

_MOST_AT_ONCE = 8
_CHUNK = 65536


@contextlib.contextmanager
def temporary(spec: LabSpec, progress: Callable[[str], None], *, keep: bool = False) -> Iterator[Lab]:
    """A lab for the duration of the block; with `keep` it stays. Raises what `Lab.up` and `doctor.require` raise."""
    doctor.require(network=spec.network, proxy=spec.proxy)
    lab = Lab.of(f"scenario-{secrets.token_hex(3)}")
    try:
        lifecycle.up(lab, spec, progress)
        yield lab
    finally:
        if not keep:
            with uninterrupted():
                progress(f"taking lab {lab.name} down")
                lifecycle.down(lab)


def needed_nodes(scenarios: Sequence[Scenario]) -> int:
    """How many nodes a lab for all of these must have."""
    return max(scenario.header.nodes for scenario in scenarios)


def matrix(nodes: int) -> list[LabSpec]:
    """A lab for each pod network, proxy and family."""
    cells = itertools.product(get_args(Network), get_args(ProxyMode), get_args(Family))
    return [LabSpec(nodes=nodes, network=n, proxy=p, families=[f]) for n, p, f in cells]


def run_matrix(
    scenarios: Sequence[Scenario], specs: Sequence[LabSpec], pcap_dir: Path, told: Callable[[Result], None]
) -> list[Result]:
    """Run all scenarios in a temporary lab for each of `specs`, several labs at once.

    `told` gets each result as soon as it is known; all are returned in order. A lab that this machine cannot make is
    skipped; if a lab fails, its scenarios are errors. An interruption ends all labs and leaves nothing behind.
    """
    at_once = min(_LABS_PER_PROCESSOR * len(os.sched_getaffinity(0)), _MOST_AT_ONCE)
    waiting = list(enumerate(specs))
    cells: dict[int, _Cell] = {}
    results: dict[int, list[Result]] = {index: [] for index, _ in waiting}
    try:
        while waiting or cells:
            while waiting and len(cells) < at_once:
                index, spec = waiting.pop(0)
                cell = _Cell(index, scenarios, spec, pcap_dir)
                cells[cell.pipe] = cell
            for pipe in select.select(list(cells), [], [])[0]:
                cell = cells[pipe]
                for result in cell.read():
                    results[cell.index].append(result)
                    told(result)
                if cell.over:
                    del cells[pipe]
    finally:
        with uninterrupted():
            for cell in cells.values():
                cell.interrupt()
            for cell in cells.values():
                cell.wait()
    return [result for index in sorted(results) for result in results[index]]


class _Cell:
    """A process that brings a lab up, runs the scenarios in it, writes their results to a pipe, and takes it down."""

    def __init__(self, index: int, scenarios: Sequence[Scenario], spec: LabSpec, pcap_dir: Path) -> None:
        self.index = index
        self.over = False
        self._scenarios = scenarios
        self._spec = spec
        self._received = b""
        self._done: list[str] = []
        self.pipe, theirs = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self.pipe)
            _be_cell(scenarios, spec, pcap_dir, theirs)
        os.close(theirs)

    def read(self) -> list[Result]:
        """The results that have arrived; at the end also errors for the missing ones."""
        chunk = os.read(self.pipe, _CHUNK)
        self._received += chunk
        *lines, self._received = self._received.split(b"\n")
        results = [msgspec.json.decode(line, type=Result) for line in lines]
        self._done += [result.name for result in results]
        if not chunk:
            status = self.wait()
            self.over = True
            missing = [scenario for scenario in self._scenarios if scenario.name not in self._done]
            reason = f"the process that ran it ended with status {status}"
            results += [without_verdict(each, self._spec, self._spec.families[0], "error", reason) for each in missing]
        return results

    def interrupt(self) -> None:
        """Make it clean up and end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end. Returns its exit status."""
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])


def _be_cell(scenarios: Sequence[Scenario], spec: LabSpec, pcap_dir: Path, pipe: int) -> NoReturn:
    """The process of a cell. It must leave by _exit, because it is a copy of its parent."""
    status = 1
    try:
        # The terminal's Ctrl-C is for the parent, which interrupts each cell once.
        os.setpgid(0, 0)
        syscalls.set_parent_death_signal(signal.SIGTERM)
        with interruptible():
            _run_cell(scenarios, spec, pcap_dir, lambda result: _write(pipe, result))
        status = 0
    finally:
        os._exit(status)


def _write(descriptor: int, result: Result) -> None:
    data = memoryview(msgspec.json.encode(result) + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]


class _Relay(Observer):
    """Passes results on as they arrive."""

    def __init__(self, told: Callable[[Result], None]) -> None:
        self.done: list[str] = []
        self._told = told

    def ended(self, result: Result) -> None:
        self.done.append(result.name)
        self._told(result)


def _run_cell(scenarios: Sequence[Scenario], spec: LabSpec, pcap_dir: Path, told: Callable[[Result], None]) -> None:
    relay = _Relay(told)
    try:
        with temporary(spec, lambda _: None) as lab:
            run(scenarios, lab, pcap_dir, relay)
    except NetlabError as error:
        status: Status = "skipped" if isinstance(error, UnsupportedError) else "error"
        for scenario in scenarios:
            if scenario.name not in relay.done:
                told(without_verdict(scenario, spec, spec.families[0], status, str(error)))
