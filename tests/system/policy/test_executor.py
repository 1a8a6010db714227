"""The kernel's tables of policies: filled, changed, repaired, and taken over by the next process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from netlab.net.addresses import Family
from netlab.policy.book import Book
from netlab.policy.nftables.executor import NftablesExecutor
from tests.sandbox import isolated
from tests.unit.policy.cases import CASES, EVERYTHING, key_of, policy
from tests.unit.policy.objects import book_of, facts, parsed
from tests.unit.policy.truth import cluster

FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")


def executors() -> list[NftablesExecutor]:
    return [NftablesExecutor(family) for family in FAMILIES]


def differing(book: Book) -> Iterator[str]:
    for executor in executors():
        yield from executor.differences(book.plan, book.profiles)


@isolated
def test_every_case_is_reached_by_its_difference_and_found_again() -> None:
    made = executors()
    found = cluster()
    book = book_of(found, [])
    book.take_changes()
    for executor in made:
        executor.replace(book.plan, book.profiles)
    for case in CASES:
        keys = [key_of(each) for each in case.policies]
        for key, each in zip(keys, case.policies, strict=True):
            book.set_policy(key, parsed(each))
        transaction = book.take_changes()
        for executor in made:
            executor.apply(transaction)
        assert not list(differing(book)), case.name
        for executor in executors():
            executor.replace(book.plan, book.profiles)  # another process: nothing is to be done
            assert executor.batches == 0
        for key in keys:
            book.set_policy(key, None)
    subprocess.run(["nft", "list", "ruleset"], check=True, stdout=subprocess.DEVNULL)  # nft aborts on some rules


@isolated
@pytest.mark.parametrize(
    "damage",
    [
        "delete table ip netlab-policy",
        "flush ruleset",
        "flush chain ip netlab-policy forward",
        "flush set ip netlab-policy ingress-pods",
        "add element ip netlab-policy ingress-profiles { 0:0 . 10.244.9.9 : 0:1 }",
        "add chain ip netlab-policy stray",
    ],
)
def test_what_others_change_is_noticed_and_repaired(damage: str) -> None:
    book = book_of(cluster(), [policy("deny", EVERYTHING, types="Ingress")])
    book.take_changes()
    made = executors()
    for executor in made:
        executor.replace(book.plan, book.profiles)
    subprocess.run(["nft", damage], check=True)
    assert [line for executor in made for line in executor.differences(book.plan, book.profiles)]
    for executor in made:
        executor.replace(book.plan, book.profiles)
        assert not executor.differences(book.plan, book.profiles)


@isolated
def test_a_label_changes_few_elements() -> None:
    found = cluster()
    case = next(each for each in CASES if each.name == "pods of a namespace: both must match")
    book = book_of(found, case.policies)
    book.take_changes()
    pod = found.pod("y/a")
    book.set_pod(pod.key, facts(pod._replace(labels={"pod": "b"})))
    # Both families' addresses come to a class that there is.
    assert len(book.take_changes()) == 2
