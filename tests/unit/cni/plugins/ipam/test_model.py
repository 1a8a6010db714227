"""The plugin against a model of it, in two range sets of four addresses each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netlab.cni.plugins.ipam import audit, commands
from netlab.cni.plugins.ipam.listing import networks
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.unit.cni.plugins.ipam.asking import addresses, ask

RANGES = [[{"subnet": "10.0.0.0/29", "exclude": ["10.0.0.6"]}], [{"subnet": "fd00::/64", "rangeEnd": "fd00::5"}]]
POOLS = [[f"10.0.0.{number}" for number in range(2, 6)], [f"fd00::{number}" for number in range(2, 6)]]
containers = st.sampled_from(["a", "b", "c", "d", "e", "f"])


class Reservations(RuleBasedStateMachine):
    """`held` is what each container holds, `last` what each range set gave last."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.boot_id = Path(self.folder.name, "boot_id")
        self.boot_id.write_text("0\n")
        self.boots = 0
        self.held: dict[str, list[str]] = {}
        self.last = ["", ""]

    def teardown(self) -> None:
        self.folder.cleanup()

    def request(self, command: str, container_id: str, **more: Any) -> Request:
        data_dir = Path(self.folder.name, "data")
        return ask(data_dir, container_id, command=command, ranges=RANGES, bootIDFile=str(self.boot_id), more=more)

    def free(self, number: int) -> list[str]:
        """A pool's free addresses, the next in turn first."""
        pool = POOLS[number]
        start = pool.index(self.last[number]) + 1 if self.last[number] else 0
        taken = {address for owned in self.held.values() for address in owned}
        return [address for address in pool[start:] + pool[:start] if address not in taken]

    def refused(self, request: Request, code: int, said: str) -> None:
        with pytest.raises(CniError, match=said) as caught:
            commands.add(request)
        assert caught.value.code == code

    @rule(name=containers)
    def add(self, name: str) -> None:
        request = self.request("ADD", name)
        if name in self.held:
            self.refused(request, errors.ALREADY_RESERVED, f"{name} already has {', '.join(self.held[name])}")
        elif not self.free(0):
            self.refused(request, errors.ADDRESSES_EXHAUSTED, "all 4 addresses")
        else:
            expected = [self.free(0)[0], self.free(1)[0]]
            result = commands.add(request)
            assert addresses(result) == expected
            assert [ip["gateway"] for ip in result["ips"]] == ["10.0.0.1", "fd00::1"]
            self.held[name] = self.last = expected

    @rule(name=containers, number=st.integers(0, 7))
    def add_a_certain_one(self, name: str, number: int) -> None:
        wanted = f"10.0.0.{number}"
        request = self.request("ADD", name, runtimeConfig={"ips": [f"{wanted}/29"]})
        if wanted not in POOLS[0]:
            self.refused(request, errors.UNSUPPORTED_FIELD, f"ips: '{wanted}/29' is")
        elif name in self.held:
            self.refused(request, errors.ALREADY_RESERVED, f"{name} already has ")
        elif wanted not in self.free(0):
            (holder,) = (holder for holder, owned in self.held.items() if wanted in owned)
            self.refused(request, errors.ALREADY_RESERVED, f"held by eth0 of container {holder}")
        else:
            expected = [wanted, self.free(1)[0]]
            assert addresses(commands.add(request)) == expected
            self.held[name] = self.last = expected

    @rule(name=containers)
    def delete(self, name: str) -> None:
        commands.delete(self.request("DEL", name))
        self.held.pop(name, None)

    @rule(name=containers)
    def check(self, name: str) -> None:
        owned = self.held.get(name, [])
        result = {"cniVersion": "1.1.0", "ips": [{"address": f"{address}/24"} for address in owned]}
        request = self.request("CHECK", name, prevResult=result)
        if owned:
            audit.check(request)
        else:
            with pytest.raises(CniError, match="has 0 of 2 reservations"):
                audit.check(request)

    @rule(kept=st.sets(containers))
    def collect_garbage(self, kept: set[str]) -> None:
        valid = [{"containerID": name, "ifname": "eth0"} for name in kept]
        audit.collect_garbage(self.request("GC", "", **{"cni.dev/valid-attachments": valid}))
        self.held = {name: owned for name, owned in self.held.items() if name in kept}

    @rule()
    def status(self) -> None:
        if self.free(0):
            audit.status(self.request("STATUS", ""))
        else:
            with pytest.raises(CniError, match="all 4 addresses") as caught:
                audit.status(self.request("STATUS", ""))
            assert caught.value.code == errors.NOT_AVAILABLE

    @rule()
    def reboot(self) -> None:
        self.boots += 1
        self.boot_id.write_text(f"{self.boots}\n")
        self.held.clear()

    @invariant()
    def the_listing_agrees(self) -> None:
        found: dict[str, list[str]] = {}
        for network in networks(Path(self.folder.name, "data")):
            assert [one.size for one in network.sets] == [4, 4]
            assert network.foreign == []
            if not network.dead:
                for one in network.reservations:
                    found.setdefault(one.container_id, []).append(one.address)
        assert found == self.held


TestReservations = Reservations.TestCase
