from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from netlab.api.server.registry.allocators import Allocations, Pool, Ranges, address_pool
from netlab.errors import ExhaustedError, UsageError


class PoolMachine(RuleBasedStateMachine):
    """Any order of claims and releases, against a plain set."""

    held: Bundle[int] = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(10, 29, band=5, reserved=(12,))
        self.model: set[int] = set()

    @rule(target=held)
    def take(self) -> int:
        number = self.pool.next_free()
        free = set(range(10, 30)) - self.model - {12}
        if number is None:
            assert not free
            return -1
        assert number in free
        assert number >= 15 or not any(candidate >= 15 for candidate in free), "the lower band comes last"
        self.pool.claim(number, "x")
        self.model.add(number)
        return number

    @rule(number=consumes(held))
    def give_back(self, number: int) -> None:
        if number in self.model:
            self.pool.release(number)
            self.model.discard(number)

    @invariant()
    def same(self) -> None:
        assert {number for number in range(10, 30) if self.pool.owner(number)} == self.model


TestPool = PoolMachine.TestCase


@given(st.sampled_from(["10.96.0.0/16", "10.0.0.0/24", "10.0.0.0/28", "fd00::/112", "fd00::/64", "fd00::/124"]))
def test_an_address_handed_out_is_a_usable_one_of_the_range(cidr: str) -> None:
    network = ipaddress.ip_network(cidr)
    pool = address_pool(network)
    seen = set()
    for _ in range(10):
        number = pool.next_free()
        assert number is not None
        address = ipaddress.ip_address(number) if network.version == 4 else ipaddress.IPv6Address(number)
        assert address in network
        assert number - int(network.network_address) not in (0, 1, 10)
        assert network.version == 6 or address != network.broadcast_address
        seen.add(number)
        pool.claim(number, "x")
    assert len(seen) == 10


def test_one_just_released_is_not_the_next_one_given() -> None:
    allocations = Allocations(Ranges.parse(["10.96.0.0/24"], "30000-30009"))
    first = allocations.free_port("TCP", ())
    allocations.record("a", frozenset({("TCP", first)}))
    allocations.record("a", frozenset())
    assert allocations.free_port("TCP", ()) != first


def test_ports_are_taken_by_protocol() -> None:
    allocations = Allocations(Ranges.parse(["10.96.0.0/24"], "30000-30000"))
    allocations.record("a", frozenset({("TCP", 30000)}))
    assert allocations.taken(("TCP", 30000), "b")
    assert not allocations.taken(("TCP", 30000), "a")
    assert allocations.free_port("UDP", ()) == 30000
    with pytest.raises(ExhaustedError, match="range 30000-30000 is full"):
        allocations.free_port("TCP", ())


@pytest.mark.parametrize(
    ("cidrs", "ports", "complaint"),
    [
        ([], "30000-32767", "one network for each family"),
        (["10.0.0.0/16", "10.1.0.0/16"], "30000-32767", "one network for each family"),
        (["10.0.0.1/16"], "30000-32767", "has host bits set"),
        (["10.0.0.0/30"], "30000-32767", "at least 16"),
        (["x"], "30000-32767", "does not appear to be"),
        (["10.0.0.0/16"], "30000", "no range of ports"),
        (["10.0.0.0/16"], "2-1", "no range of ports"),
        (["10.0.0.0/16"], "1-65536", "no range of ports"),
    ],
)
def test_ranges_that_make_no_sense(cidrs: list[str], ports: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Ranges.parse(cidrs, ports)
