"""The operations that lead from plan to plan: their number, their order, their sum."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from netlab.net.nftables.batch import Batch, Elements, listed, messages
from netlab.net.nftables.tables import Found
from netlab.proxy.nftables.comparison import repair, words
from netlab.proxy.nftables.contents import Contents
from netlab.proxy.nftables.elements import Ruleset, arrange
from netlab.proxy.nftables.fixed import Layout
from netlab.proxy.plan import Endpoint, Frontend, Policy, Scope, Target, difference

HTTP = Frontend("10.96.0.1", "tcp", 80)


def endpoints(*numbers: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.244.2.{number}", 8080, False) for number in numbers)


def target(*numbers: int, service: str = "default/web") -> Target:
    return Target(service, Scope.INTERNAL, "Cluster", endpoints(*numbers), ())


def ruleset() -> Ruleset:
    return Ruleset(Layout("IPv4", "ip saddr { 10.244.0.0/16 }", "ip saddr != { 10.244.0.0/16 }"))


def operations(batch: Batch) -> Counter[str]:
    """How many objects go (`-NAME`) and come (`+NAME`); elements count under the name of their set or map."""
    counted: Counter[str] = Counter()
    for sign, elements in (("-", batch.gone), ("+", batch.come)):
        for name, keys in elements.items():
            counted[f"{sign}{name}"] += len(keys)
    for name, lists in batch.lists_come.items():
        counted[f"+{name}"] += sum(map(len, lists.values()))
    for sign, names in (
        ("-", [*batch.chains_gone, *batch.sets_gone]),
        ("+", [*batch.chains_come, *batch.sets_come]),
    ):
        for name in names:
            counted[f"{sign}{name}"] += 1
    return counted


def test_a_service_costs_one_element_and_each_endpoint_another() -> None:
    rules = ruleset()
    rules.change(difference({}, {HTTP: target(1, 2)}))
    other = Frontend("10.96.0.2", "tcp", 80)
    batch = rules.change(difference({}, {other: target(3, 4, service="default/other")}))
    assert operations(batch) == {"+cluster-ips": 1, "+internal": 1, "+picks": 1, "+endpoints": 2}


def test_nothing_changed_is_nothing_sent() -> None:
    rules = ruleset()
    plan = {HTTP: target(1, 2)}
    rules.change(difference({}, plan))
    batch = rules.change(difference(plan, plan))
    assert messages("ip", "kube-proxy", batch) == []


def test_an_endpoint_of_many_costs_what_it_changes() -> None:
    rules = ruleset()
    many = range(1, 201)
    rules.change(difference({}, {HTTP: target(*many)}))
    batch = rules.change(difference({HTTP: target(*many)}, {HTTP: target(*(n for n in many if n != 7))}))
    # Slot 199 goes, slot 6 is given to the last endpoint, the frontend leads to another number: a chain.
    assert operations(batch) == {
        "-endpoints": 2,
        "+endpoints": 1,
        "-picks": 1,
        "+picks": 1,
        "+pick-199": 1,
    }
    # The chain that nothing leads to stays for the next time.
    back = rules.change(difference({HTTP: target(*(n for n in many if n != 7))}, {HTTP: target(*many)}))
    assert operations(back) == {"+endpoints": 1, "-picks": 1, "+picks": 1}
    assert sum(len(message.payload) for message in messages("ip", "kube-proxy", batch)) < 1500


def test_replacing_an_endpoint_touches_its_element_alone() -> None:
    rules = ruleset()
    rules.change(difference({}, {HTTP: target(1, 2, 3)}))
    batch = rules.change(difference({HTTP: target(1, 2, 3)}, {HTTP: target(1, 3, 4)}))
    assert operations(batch) == {"-endpoints": 1, "+endpoints": 1}


@pytest.mark.parametrize(("endpoints", "rules"), [(1, 6), (100, 70), (1000, 250)])
def test_an_endpoint_with_affinity_costs_few_of_a_long_lists_rules(endpoints: int, rules: int) -> None:
    listed = tuple(Endpoint(f"10.244.{number // 250}.{number % 250}", 8080, False) for number in range(endpoints))
    before = {HTTP: replace(target(), cluster=listed, affinity_seconds=60)}
    after = {HTTP: replace(before[HTTP], cluster=(*listed[1:], Endpoint("10.244.9.9", 8080, False)))}
    changed = ruleset()
    changed.change(difference({}, before))
    batch = changed.change(difference(before, after))
    assert sum(map(len, batch.chains_come.values())) <= rules
    counted = operations(batch)
    assert (counted["-sticky"], counted["+sticky"], counted["-picks"], counted["+picks"]) == (1, 1, 1, 1)
    assert (len(batch.sets_gone), len(batch.sets_come)) == (1, 1)


def test_the_number_of_chains_does_not_grow_with_services() -> None:
    def chains(services: int) -> int:
        rules = ruleset()
        plan = {
            Frontend(f"10.96.{n // 250}.{n % 250}", "tcp", 80): target(1, 2, service=f"d/{n}") for n in range(services)
        }
        return len(rules.change(difference({}, plan)).chains_come)

    assert chains(1) == chains(500) == 1


def test_what_is_there_already_is_taken_over_in_its_slots() -> None:
    before, after = {HTTP: target(1, 2, 3)}, {HTTP: target(2, 3, 4)}
    rules = ruleset()
    rules.change(difference({}, before))
    found = table_of(rules.contents(before), rules.layout)
    restarted = ruleset()
    restarted.adopt(after, found.elements)
    repaired = repair(found, restarted.contents(after), restarted.layout, {})
    assert operations(repaired.batch) == {"-endpoints": 1, "+endpoints": 1}
    assert not repaired.layout


def test_chains_that_a_proxy_keeps_for_later_are_no_difference() -> None:
    rules = ruleset()
    rules.change(difference({}, {HTTP: target(1, 2)}))
    rules.change(difference({HTTP: target(1, 2)}, {HTTP: target(1)}))
    found = table_of(rules.contents({HTTP: target(1)}), rules.layout)
    assert {"pick-1", "pick-2"} <= found.chains.keys()
    beside = ruleset()
    beside.adopt({HTTP: target(1)}, found.elements, found.chains)
    assert list(words(found, beside.contents({HTTP: target(1)}), beside.layout, {})) == []


def test_every_difference_is_told_in_words() -> None:
    rules = ruleset()
    plan = {HTTP: target(1)}
    rules.change(difference({}, plan))
    wanted = rules.contents(plan)
    found = table_of(wanted, rules.layout)
    assert list(words(found, wanted, rules.layout, {})) == []
    assert list(words(None, wanted, rules.layout, {})) == ["table ip kube-proxy is missing"]
    chains = found.chains | {"stray": (0, ""), "dispatch": (1, "")}
    del chains["refuse"]
    endpoints: Elements = {"endpoints": {bytes(15) + b"\1": b"\1\2\3\4\0\x50\0\0"}}
    broken = found._replace(comment="other", chains=chains, elements=found.elements | endpoints)
    assert list(words(broken, wanted, rules.layout, {})) == [
        f"table ip kube-proxy has another layout: its comment is 'other' instead of {rules.layout.comment!r}",
        "chain dispatch has the wrong rules",
        "chain refuse is missing",
        "chain stray is not in the plan",
        "map endpoints lacks 10.96.0.1 . tcp . 80 . 0 : 10.244.2.1 . 8080",
        "map endpoints has beyond the plan 0.0.0.0 . 0 . 0 . 16777216 : 1.2.3.4 . 80",
    ]


def test_source_ranges_that_overlap_are_one() -> None:
    rules = ruleset()
    address = Frontend("198.51.100.1", "tcp", 80)
    sources = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32")
    plan = {address: replace(target(1), scope=Scope.EXTERNAL, sources=sources)}
    assert operations(rules.change(difference({}, plan))) == {
        "+firewalled": 1,
        "+allowed": 2,
        "+external": 1,
        "+picks": 1,
        "+endpoints": 1,
        "+pick-1": 1,
    }


def test_endpoints_that_stay_keep_their_slots() -> None:
    one, two, three, four = endpoints(1, 2, 3, 4)
    assert arrange((one, two, three), [one, three, four]) == (one, four, three)
    assert arrange((one, two, three), [three, two]) == (three, two)
    assert arrange((), [one, two]) == (one, two)


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


def carry_out(table: dict[tuple[str, bytes | str], object], batch: Batch) -> None:
    """What the kernel makes of a batch; it refuses to delete what is not there and to add what is."""
    for name, gone in batch.gone.items():
        for key, value in gone.items():
            assert table.pop((name, key)) == value
    for name, come in batch.come.items():
        for key, value in come.items():
            assert (name, key) not in table
            table[name, key] = value
    for name, lists in batch.lists_come.items():
        for key, value in (element for one in lists.items() for element in listed(*one)):
            assert (name, key) not in table
            table[name, key] = value
    for name in [*batch.chains_gone, *batch.sets_gone]:
        del table["", name]
    for name, thing in [*batch.chains_come.items(), *batch.sets_come.items()]:
        assert ("", name) not in table
        table["", name] = thing


def flat(contents: Contents) -> dict[tuple[str, bytes | str], object]:
    elements = {(name, key): value for name, found in contents.elements.items() for key, value in found.items()}
    chains = {("", name): chain.expressions for name, chain in contents.chains.items()}
    return elements | chains | {("", name): (each.seconds, each.size) for name, each in contents.sets.items()}


def table_of(contents: Contents, layout: Layout) -> Found:
    """The table as it is read back."""
    chains = {chain.name: (len(chain.rules), "") for chain in layout.chains()}
    chains |= {name: (len(shape.texts), "") for name, shape in contents.chains.items()}
    sets = frozenset([*layout.schemas, *contents.sets])
    return Found(1, layout.comment, chains, sets, contents.elements)


@settings(max_examples=200, deadline=None)
@given(st.lists(plans(), min_size=1, max_size=6))
def test_any_sequence_of_plans_leads_where_a_restart_leads(sequence: list[dict[Frontend, Target]]) -> None:
    rules, kernel = ruleset(), dict[tuple[str, bytes | str], object]()
    previous: dict[Frontend, Target] = {}
    for plan in sequence:
        carry_out(kernel, rules.change(difference(previous, plan)))
        previous = plan
        contents = rules.contents(plan)
        assert flat(contents) == kernel
    restarted = ruleset()
    restarted.adopt(previous, contents.elements)
    again = restarted.contents(previous)
    batch = repair(table_of(contents, rules.layout), again, rules.layout, {}).batch
    assert all("pick-" in name for name in operations(batch)), "only what no list needs goes"
    carry_out(kernel, batch)
    assert flat(again) == kernel
