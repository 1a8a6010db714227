"""Waits until every node has put all changes so far in force.

A change in the API reaches the packets in two steps: controllers act on it (a Deployment's pods, a Service's
EndpointSlices), and every node's kube-proxy and agent of the pod network put the results in force. Each publishes the
resourceVersion up to which it has done its part (netlab.lab.revisions), so there is no need to guess how long it takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from netlab.api.errors import ApiUnavailableError
from netlab.api.resources import PROGRESS
from netlab.backoff import Backoff
from netlab.errors import TimedOutError
from netlab.lab import revisions
from netlab.lab.revisions import CONTROLLER_MANAGER, Standing

if TYPE_CHECKING:
    from netlab.lab.lab import Lab

TIMEOUT = 60.0
"""Seconds, more than enough: it takes a few milliseconds if nothing happens."""

_ROUNDS = 8
"""More than the longest chain of controllers that act on each other's changes: Deployment, ReplicaSet, pod, node,
EndpointSlice. In a lab where something always changes, the barrier waits for no more rounds."""

_PAUSES = Backoff(first=0.001, last=0.02)
_ASK_AGAIN = 0.25
"""Seconds before another progress request: a watch that was reopened since has missed the last one."""


class Lag(NamedTuple):
    """A component that lags behind the wanted revision; `node` is empty for the controller manager."""

    component: str
    node: str
    revision: int
    """How far it is; 0 if it does not run, or has only just started."""
    wanted: int

    def __str__(self) -> str:
        where = f"{self.node}: {self.component}" if self.node else self.component
        how_far = f"is at revision {self.revision}" if self.revision else "does not run or has not synced yet"
        return f"{where} {how_far}, the API at {self.wanted}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of waiting: the revision that is in force everywhere except on those that lag."""

    revision: int
    standings: dict[str, Standing]
    lags: list[Lag]


def wait(lab: Lab, timeout: float = TIMEOUT, *, excused: Collection[str] = ()) -> int:
    """Wait until everything so far is in force on all nodes. Returns the revision in force.

    `excused` are components not to wait for. Raises `TimedOutError` naming what lags after `timeout` seconds, and what
    `Lab.require_up` raises.
    """
    outcome = look(lab, timeout, excused=excused)
    if outcome.lags:
        lags = "; ".join(map(str, outcome.lags))
        logs = ", ".join(f"{_log_of(lag)}.log" for lag in outcome.lags)
        raise TimedOutError(f"lab {lab.name}: not in force after {timeout:g} s: {lags}; see {logs} in {lab.paths.logs}")
    return outcome.revision


def look(lab: Lab, timeout: float, *, excused: Collection[str] = ()) -> Outcome:
    """Wait in the same way, but return what lags instead of raising. Raises what `Lab.require_up` raises."""
    return _Barrier(lab, time.monotonic() + timeout, frozenset(excused)).pass_()


class _Barrier:
    def __init__(self, lab: Lab, deadline: float, excused: frozenset[str]) -> None:
        self._lab = lab
        self._client = lab.client()
        self._deadline = deadline
        self._excused = excused
        self._nodes = lab.spec().node_names

    def pass_(self) -> Outcome:
        wanted, acted = self._controllers_acted()
        # Controllers that are always busy are always a little behind: once they have acted, only the nodes count.
        names = set(self._read()) - ({CONTROLLER_MANAGER} if acted else set())
        in_force = acted and self._reached(wanted, names)
        standings = self._read()
        return Outcome(wanted, standings, [] if in_force else self._lags(standings, wanted, names))

    def _controllers_acted(self) -> tuple[int, bool]:
        """Wait until controllers have acted on everything so far. Returns the revision then, and whether they have."""
        for _ in range(_ROUNDS):
            before = self._read()[CONTROLLER_MANAGER].writes
            wanted = self._progress()
            if not self._reached(wanted, {CONTROLLER_MANAGER}):
                return wanted, False
            if self._read()[CONTROLLER_MANAGER].writes == before:
                return wanted, True
        return self._progress(), True

    def _reached(self, wanted: int, names: Collection[str]) -> bool:
        """Wait until these components are at a revision. Returns False on timeout."""
        pause, ask_at = _PAUSES, time.monotonic() + _ASK_AGAIN
        behind = set(names) - self._excused
        while True:
            standings = self._read()
            behind = {name for name in behind if standings[name].revision < wanted}
            if not behind:
                return True
            now = time.monotonic()
            if now > self._deadline:
                return False
            if now > ask_at:
                self._progress()
                ask_at = now + _ASK_AGAIN
            pause = pause.failed()
            time.sleep(pause.delay)

    def _progress(self) -> int:
        """The API's current revision, after telling all watches. Raises what `Lab.require_up` raises."""
        while True:
            left = self._deadline - time.monotonic()
            try:
                answer = self._client.request("POST", PROGRESS, timeout=max(left, _ASK_AGAIN))
                return int(answer["resourceVersion"])
            except ApiUnavailableError:
                self._lab.require_up()  # if it is, the API server is being restarted
                if left < 0:
                    raise
                time.sleep(_PAUSES.last)

    def _read(self) -> dict[str, Standing]:
        return revisions.read_all(self._lab.paths, self._nodes)

    def _lags(self, standings: dict[str, Standing], wanted: int, names: Collection[str]) -> list[Lag]:
        found = []
        for name, standing in standings.items():
            if standing.revision < wanted and name in names and name not in self._excused:
                node = next((each for each in self._nodes if name.endswith(f"-{each}")), "")
                found.append(Lag(name.removesuffix(f"-{node}") if node else name, node, standing.revision, wanted))
        return found


def _log_of(lag: Lag) -> str:
    if not lag.node:
        return lag.component
    return f"{'kubelet' if lag.component in ('pod-network', 'policy') else lag.component}-{lag.node}"
