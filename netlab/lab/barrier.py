"""Waiting until every node has put in force what has been done until now.

What is done by the API reaches the packets in two steps: controllers act upon it (a Deployment's pods, a Service's
EndpointSlices), and every node's kube-proxy and agent of the pod network put in force what all of them wrote. Each
tells the resourceVersion up to which it has done its part (netlab.lab.revisions): no guess how long that takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from netlab.api.errors import ApiUnavailableError
from netlab.api.resources import PROGRESS
from netlab.errors import TimedOutError
from netlab.lab import revisions
from netlab.lab.revisions import CONTROLLER_MANAGER, Standing

if TYPE_CHECKING:
    from netlab.lab.lab import Lab

TIMEOUT = 60.0
"""Seconds that are more than enough: it takes some milliseconds where nothing happens."""

_ROUNDS = 8
"""The longest chain of controllers that act upon each other's changes is shorter: Deployment, ReplicaSet, pod, node,
EndpointSlice. In a lab where something always changes the end of the chain is not waited for beyond that."""

_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.02
_ASK_AGAIN = 0.25
"""Seconds after which watches are told again: one that has just been opened anew was not there before."""


class Lag(NamedTuple):
    """A component that has not put in force what it should have; `node` is empty for the controller manager's."""

    component: str
    node: str
    revision: int
    """How far it is. 0: it does not run, or has only just started."""
    wanted: int

    def __str__(self) -> str:
        where = f"{self.node}: {self.component}" if self.node else self.component
        how_far = f"is at revision {self.revision}" if self.revision else "does not run or has not synced yet"
        return f"{where} {how_far}, the API at {self.wanted}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the waiting came to: the revision that is in force everywhere, but for those that lag."""

    revision: int
    standings: dict[str, Standing]
    lags: list[Lag]


def wait(lab: Lab, timeout: float = TIMEOUT, *, excused: Collection[str] = ()) -> int:
    """Wait until all that has been done until now is in force on all nodes; the revision that is.

    `excused` are components that are not waited for. Raises `TimedOutError` naming what lags after `timeout` seconds,
    and as `Lab.require_up`.
    """
    outcome = look(lab, timeout, excused=excused)
    if outcome.lags:
        lags = "; ".join(map(str, outcome.lags))
        logs = ", ".join(f"{_log_of(lag)}.log" for lag in outcome.lags)
        raise TimedOutError(f"lab {lab.name}: not in force after {timeout:g} s: {lags}; see {logs} in {lab.paths.logs}")
    return outcome.revision


def look(lab: Lab, timeout: float, *, excused: Collection[str] = ()) -> Outcome:
    """Wait for that as long, and say who lags then. Raises as `Lab.require_up`."""
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
        # Controllers that never rest are always a little behind: once they have acted, only the nodes count.
        names = set(self._read()) - ({CONTROLLER_MANAGER} if acted else set())
        in_force = acted and self._reached(wanted, names)
        standings = self._read()
        return Outcome(wanted, standings, [] if in_force else self._lags(standings, wanted, names))

    def _controllers_acted(self) -> tuple[int, bool]:
        """Wait until what controllers do because of all that was done is done, too: the revision then, and whether."""
        for _ in range(_ROUNDS):
            before = self._read()[CONTROLLER_MANAGER].writes
            wanted = self._progress()
            if not self._reached(wanted, {CONTROLLER_MANAGER}):
                return wanted, False
            if self._read()[CONTROLLER_MANAGER].writes == before:
                return wanted, True
        return self._progress(), True

    def _reached(self, wanted: int, names: Collection[str]) -> bool:
        """Wait until these components are at a revision; whether they are."""
        pause, ask_at = _FIRST_PAUSE, time.monotonic() + _ASK_AGAIN
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
            time.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    def _progress(self) -> int:
        """The API's present revision, of which all watches are told. Raises as `Lab.require_up`."""
        while True:
            left = self._deadline - time.monotonic()
            try:
                answer = self._client.request("POST", PROGRESS, timeout=max(left, _ASK_AGAIN))
                return int(answer["resourceVersion"])
            except ApiUnavailableError:
                self._lab.require_up()  # else the API server is being started again
                if left < 0:
                    raise
                time.sleep(_LAST_PAUSE)

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
    return f"{'kubelet' if lag.component == 'pod-network' else lag.component}-{lag.node}"
