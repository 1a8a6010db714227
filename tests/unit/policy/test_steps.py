"""The order of a change's transactions: packets that are on their way find what they were led to."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.net.nftables.batch import Batch, Elements
from netlab.policy.nftables.elements import change, contents, no_longer_used, unused
from netlab.policy.nftables.steps import steps
from tests.unit.policy.cases import CASES, key_of
from tests.unit.policy.objects import book_of, facts, parsed
from tests.unit.policy.truth import cluster


def applied(table: Elements, batch: Batch) -> Elements:
    """The contents after a transaction."""
    found = {name: dict(elements) for name, elements in table.items()}
    for name, gone in batch.gone.items():
        for key in gone:
            del found[name][key]
    for name, come in batch.come.items():
        assert not found.get(name, {}).keys() & come.keys()
        found.setdefault(name, {}).update(come)
    return {name: elements for name, elements in found.items() if elements}


def changes() -> Iterator[tuple[str, Elements, list[Batch], Elements]]:
    """Each case, a pod's labels changed and changed back, no case: contents before, the steps, contents after."""
    found = cluster()
    book = book_of(found, [])
    book.take_changes()
    before = contents(book.plan, book.profiles, "IPv4")
    for case in CASES:
        for stage in ("policies", "other labels", "own labels", "no policies"):
            for each in case.policies if "policies" in stage else ():
                book.set_policy(key_of(each), parsed(each) if stage == "policies" else None)
            if "labels" in stage:
                pod = found.pod("y/a")
                other = pod._replace(labels={"pod": "c", "new": "1"})
                book.set_pod(pod.key, facts(other if stage == "other labels" else pod))
            transaction = book.take_changes()
            after = contents(book.plan, book.profiles, "IPv4")
            listed = list(steps(change(transaction, "IPv4"), no_longer_used(transaction, "IPv4")))
            assert listed == list(steps(change(transaction, "IPv4"), unused(after))), case.name
            yield f"{case.name}: {stage}", before, listed, after
            before = after


def test_what_packets_on_their_way_look_for_stays_until_the_last_step() -> None:
    most = 0
    for name, before, listed, after in changes():
        most = max(most, len(listed))
        reached, table = before, before
        for step in listed:
            reached, table = table, applied(table, step)
        assert table == after, name
        # All but what the last step takes away, as it was before that or after all steps.
        at_most = reached if listed and not listed[-1].come else after
        for which in ("profiles", "ports"):
            assert before.get(which, {}).keys() <= at_most.get(which, {}).keys(), name
        for side in ("ingress", "egress"):
            used = {value[-4:] for part in ("peers", "blocks") for value in after.get(f"{side}-{part}", {}).values()}
            gone = before.get(f"{side}-profiles", {}).keys() - at_most.get(f"{side}-profiles", {}).keys()
            judging = after.get(f"{side}-pods", {})
            assert all(key[:4] in {*used, bytes(4)} and key[4:] in judging for key in gone), name
    assert most > 1
