"""What a plan admits, without a kernel: the way of a packet through it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from ipaddress import ip_address

from netlab.net.addresses import family_of
from netlab.policy.plan import ANY_CLASS, Judged, Place, Plan, Profiles, Range
from netlab.policy.ports import EVERYTHING, NOTHING, Ports, common
from netlab.policy.rules import DIRECTIONS, Direction


class Model:
    """A plan to look things up in; it must not change meanwhile."""

    def __init__(self, plan: Plan, profiles: Profiles) -> None:
        self._plan = plan
        self._profiles = profiles
        self._blocks: dict[Direction, Callable[[str], int | None]] = {
            direction: _finder(plan, direction) for direction in DIRECTIONS
        }

    def admits(self, source: str, destination: str) -> Ports:
        """The ports of a destination's address to which a source's may connect."""
        if source == destination:
            return EVERYTHING
        return common(self.side("Egress", source, destination), self.side("Ingress", destination, source))

    def side(self, direction: Direction, judge: str, peer: str) -> Ports:
        """The ports at which one of them admits the other."""
        if judge not in self._plan[Place("pods", direction)]:
            return EVERYTHING
        number = self._plan[Place("peers", direction)].get(peer)
        if number is None:
            number = self._blocks[direction](peer)
        profiles = self._plan[Place("profiles", direction)]
        for candidate in (number, ANY_CLASS):
            if candidate is not None and (profile := profiles.get(Judged(candidate, judge))) is not None:
                return self._profiles[profile]
        return NOTHING


def _finder(plan: Plan, direction: Direction) -> Callable[[str], int | None]:
    """The class of an address by the blocks that it is in."""
    ranges = sorted(
        (family_of(key.first), int(ip_address(key.first)), int(ip_address(key.last)), number)
        for key, number in plan[Place("blocks", direction)].items()
        if isinstance(key, Range)
    )
    starts = [(family, first) for family, first, _, _ in ranges]

    def find(address: str) -> int | None:
        family, number = family_of(address), int(ip_address(address))
        place = bisect_right(starts, (family, number)) - 1
        if place < 0:
            return None
        of_family, _, last, found = ranges[place]
        return found if of_family == family and number <= last else None

    return find
