"""The labels by which the kernel keeps owners."""

from __future__ import annotations

from netlab.cni.spec.names import owner, owner_prefix


def test_owners_fit_into_a_comment_differ_and_begin_with_their_network() -> None:
    networks, containers = ("n", "n" * 200, "n" * 201), ("c", "c" * 64, "c" * 150, "c" * 151)
    owners = {
        owner(network, container, ifname)
        for network in networks
        for container in containers
        for ifname in ("eth0", "e" * 15)
    }
    assert len(owners) == 3 * 4 * 2
    assert all(len(label.encode()) < 128 for label in owners)
    for network in networks:
        assert sum(label.startswith(owner_prefix(network)) for label in owners) == 4 * 2
    assert owner("net", "c", "eth0") == "net/c/eth0"
