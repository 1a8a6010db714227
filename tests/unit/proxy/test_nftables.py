"""The operations that lead from plan to plan: their number, their order, their sum."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.proxy.nftables import Content, Item, Operation, Ruleset, arrange
from netlab.proxy.plan import Endpoint, Frontend, Policy, Scope, Target, difference

HTTP = Frontend("10.96.0.1", "tcp", 80)


def endpoints(*numbers: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.244.2.{number}", 8080, False) for number in numbers)


def target(*numbers: int, service: str = "default/web") -> Target:
    return Target(service, Scope.INTERNAL, "Cluster", endpoints(*numbers), ())


def ruleset() -> Ruleset:
    return Ruleset("IPv4", ["10.244.0.0/16"])


def test_a_service_costs_one_element_and_each_endpoint_another() -> None:
    rules = ruleset()
    rules.change(difference({}, {HTTP: target(1, 2)}))
    other = Frontend("10.96.0.2", "tcp", 80)
    operations = rules.change(difference({}, {other: target(3, 4, service="default/other")}))
    assert Counter((op.item.kind, op.item.name) for op in operations) == {
        ("element", "cluster-ips"): 1,
        ("element", "services"): 1,
        ("element", "endpoints-tcp"): 2,
    }


def test_nothing_changed_is_nothing_sent() -> None:
    rules = ruleset()
    plan = {HTTP: target(1, 2)}
    rules.change(difference({}, plan))
    assert rules.change(difference(plan, plan)) == []
    assert rules.render([]) == ""


def test_an_endpoint_of_many_costs_what_it_changes() -> None:
    rules = ruleset()
    many = range(1, 201)
    rules.change(difference({}, {HTTP: target(*many)}))
    operations = rules.change(
        difference({HTTP: target(*many)}, {HTTP: target(*(number for number in many if number != 7))})
    )
    # Slot 199 goes, slot 6 is given to the last endpoint, the frontend points at another number; two chains each way.
    assert Counter((op.item.name.rstrip("0129"), op.content is None) for op in operations) == {
        ("endpoints-tcp", True): 2,
        ("endpoints-tcp", False): 1,
        ("services", True): 1,
        ("services", False): 1,
        ("pick-tcp-", True): 1,
        ("pick-tcp-", False): 1,
        ("cluster-tcp-", True): 1,
        ("cluster-tcp-", False): 1,
    }


def test_the_number_of_chains_does_not_grow_with_services() -> None:
    def chains(services: int) -> int:
        rules = ruleset()
        plan = {
            Frontend(f"10.96.{n // 250}.{n % 250}", "tcp", 80): target(1, 2, service=f"d/{n}") for n in range(services)
        }
        rules.change(difference({}, plan))
        return sum(item.kind == "chain" for item in rules.items)

    assert chains(1) == chains(500)


def test_endpoints_that_stay_keep_their_slots() -> None:
    one, two, three, four = endpoints(1, 2, 3, 4)
    assert arrange((one, two, three), {one, three, four}) == (one, four, three)
    assert arrange((one, two, three), {three, two}) == (three, two)
    assert arrange((), {two, one}) == (one, two)


# --- Any sequence of plans leads where a fresh load leads ---------------------------------------------------------

SCOPES = {f"10.96.0.{n}": Scope.INTERNAL for n in (1, 2)} | {"198.51.100.1": Scope.EXTERNAL, "": Scope.EXTERNAL}


@st.composite
def plans(draw: st.DrawFn) -> dict[Frontend, Target]:
    """Plans as the planner makes them: the frontends of a Service port agree."""
    plan: dict[Frontend, Target] = {}
    for service in draw(st.sets(st.sampled_from(["d/x", "d/y"]))):
        port = {"d/x": 80, "d/y": 81}[service]
        numbers = draw(st.sets(st.integers(1, 6)))
        cluster = tuple(Endpoint(f"10.244.1.{n}", 8080, n < 4) for n in sorted(numbers))
        local = tuple(endpoint for endpoint in cluster if endpoint.local)
        affinity = draw(st.sampled_from([0, 0, 60, 3600]))
        policies: dict[Scope, Policy] = {scope: draw(st.sampled_from(["Cluster", "Local"])) for scope in Scope}
        protocol = draw(st.sampled_from(["tcp", "udp"]))
        for address in draw(st.sets(st.sampled_from(sorted(SCOPES)))):
            scope = SCOPES[address]
            plan[Frontend(address or None, protocol, port)] = Target(
                service, scope, policies[scope], cluster, local if policies[scope] == "Local" else (), affinity
            )
    return plan


def carry_out(table: dict[Item, Content], operations: list[Operation]) -> None:
    """What the kernel makes of a batch; it refuses to delete what is not there and to add what is."""
    for item, content in operations:
        if content is None:
            del table[item]
        else:
            assert item not in table, item
            table[item] = content


def normal(table: dict[Item, Content]) -> Counter[tuple[str, str, str]]:
    """A table without the order of its lists: slots are a matter of history."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for (_, name, key), content in table.items():
        counted[name, key.rsplit(" . ", 1)[0] if name.startswith("endpoints-") else key, str(content)] += 1
    return counted


@settings(max_examples=200, deadline=None)
@given(st.lists(plans(), min_size=1, max_size=6))
def test_any_sequence_of_plans_leads_where_a_fresh_load_leads(sequence: list[dict[Frontend, Target]]) -> None:
    rules, table = ruleset(), dict[Item, Content]()
    previous: dict[Frontend, Target] = {}
    for plan in sequence:
        carry_out(table, rules.change(difference(previous, plan)))
        previous = plan
    fresh = dict[Item, Content]()
    carry_out(fresh, ruleset().change(difference({}, previous)))
    assert normal(table) == normal(fresh)
    assert set(rules.items) == set(table)
