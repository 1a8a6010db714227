"""Whatever stands in the environment and on standard input: a specified answer, and no effect of a failure.

Configurations that work are broken in a few places, so that what is wrong is found deep inside, too; they are answered
in this process, over real namespaces. What the executables add to that is little, and gets a few examples.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2 import IPRoute

from netlab.cni.plugins import call
from netlab.cni.plugins.answer import answer
from netlab.cni.plugins.ipam.store import holders
from netlab.cni.spec import errors
from netlab.cni.spec.versions import VERSIONS
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.test_specification import environment as an_environment
from tests.system.cni.test_specification import execute

SPECIFIED = {1, 2, 3, 4, 5, 6, 7, 11, 50, 51}
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
INTERFACES = [{"name": "cni0"}, {"name": "eth0", "mac": "0a:58:0a:f4:01:02", "sandbox": "/nonexistent"}]
IPS = [{"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 1}, {"address": "fd00::2/64", "interface": 1}]
PREVIOUS = {"interfaces": INTERFACES, "ips": IPS, "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}], "dns": {}}
IPAM = {
    "type": "netlab-ipam",
    "ranges": [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9", "gateway": "10.244.1.1"}], pods.V6],
    "routes": [{"dst": "192.0.2.0/24", "gw": "10.244.1.9", "mtu": 1400}],
    "sticky": True,
}
ATTACHMENTS = {"cni.dev/valid-attachments": [{"containerID": "other", "ifname": "eth0"}]}
MAIN = {
    "isDefaultGateway": True,
    "ipMasq": True,
    "mtu": 1400,
    "dns": {"nameservers": ["10.0.0.1"]},
    "runtimeConfig": {"ips": ["10.244.1.77"], "mac": "0a:58:0a:f4:01:03", "dns": {"servers": ["10.0.0.1"]}},
    "args": {"cni": {"ips": ["10.244.1.78"]}},
    "ipam": IPAM,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "netlab": {**MAIN, "mode": "bridge", "bridge": "cni0", "hairpinMode": True, "macspoofchk": True},
    "netlab routed": {**MAIN, "mode": "routed", "ipam": {**IPAM, "routes": [{"dst": "192.0.2.0/24"}]}},
    "netlab vxlan": {**MAIN, "mode": "vxlan", "bridge": "cni1", "vxlan": {"id": 5, "device": "lo"}},
    "netlab-ipam": {
        "ipam": IPAM,
        "runtimeConfig": {"ipRanges": [[{"subnet": "10.244.3.0/24"}]], "ips": ["10.244.3.7"]},
    },
    "netlab-portmap": {
        "snat": True,
        "masqAll": True,
        "markMasqBit": 13,
        "backend": "nftables",
        "runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}]
        },
        "prevResult": PREVIOUS,
    },
    "netlab-bandwidth": {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 8_000_000,
        "egressBurst": 800_000,
        "unshapedSubnets": ["10.0.0.0/8"],
        "prevResult": PREVIOUS,
    },
}

odd = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6).filter(lambda text: not text.startswith("/"))
    | st.sampled_from(["", "a/b", "..", "10.0.0.1", "10.0.0.0/33", "::", "fd00::/128", "0.0.0.0/0", "lo", "x" * 300])
    | st.sampled_from(["routed", "vxlan", "\0", "é", "\ud800", "00:00:00:00:00:00"])
    | st.sampled_from([-1, 0, 1, 65536, 1 << 31, 1 << 32, 1 << 64, 1e300])
)
odder = odd | st.lists(odd, max_size=2) | st.dictionaries(st.sampled_from(["type", "dst", "address"]), odd, max_size=2)


def paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every field of a configuration."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*path, key), *paths(item, (*path, key)))]


@st.composite
def broken(draw: st.DrawFn, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with some of its fields gone, or with something odd in their place."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(0, 3))):
        fields = [path for path in paths(config) if path not in {("cniVersion",), ("name",)}]  # they lead nowhere
        *way, key = draw(st.sampled_from(fields))
        inner: Any = config
        for step in way:
            inner = inner[step]
        if isinstance(inner, dict) and draw(st.booleans()):
            del inner[key]
        else:
            inner[key] = draw(odder)
    return config


variable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=17)


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """An environment that works, or one with something odd in it."""
    found = an_environment(draw(st.sampled_from(["ADD"] * 5 + ["DEL", "CHECK", "GC", "STATUS"])))
    found["CNI_ARGS"] = draw(st.sampled_from(["", "", "IgnoreUnknown=1;A=B", "IP=10.244.1.9", "K8S_POD_NAME=a"]))
    if draw(st.integers(0, 3)):
        return found
    names = [name for name in found if name.startswith("CNI_")]
    for name in draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)):
        found[name] = draw(variable | st.sampled_from(["/proc/self/ns/mnt", "/", "lo", "cni0", "IP", "ADD"]))
    return found


def is_specified(status: int, output: str) -> None:
    if status == 0:
        assert output == "" or "cniVersion" in json.loads(output)
        return
    assert status == 1
    error = json.loads(output)
    code = error["code"]
    assert code != errors.INTERNAL, error
    assert code in SPECIFIED or code >= 100, error
    assert error["cniVersion"] in VERSIONS
    assert error["msg"]
    assert error["msg"].isprintable()


def state(netns: str, data_dir: Path) -> tuple[object, ...]:
    """What a call might change: links on both sides, reservations, and elements of nftables."""
    with pods.inside(netns):
        inside = pods.links()
    outside = {name for name in pods.links() if name.startswith("veth")}
    elements = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
    held = [one.address for one in holders(str(data_dir), "net")]
    return inside, outside, held, [line for line in elements.splitlines() if b"comment" in line]


class Caller:
    """Calls plugins in this process, for a sandbox. `CNI_NETNS` is the sandbox's where the environment works."""

    def __init__(self, netns: str, folder: Path) -> None:
        self._netns = netns
        self._before = {"cniVersion": "1.1.0", "name": "before", **CONFIGS["netlab"]}
        self._before["ipam"] = {**IPAM, "dataDir": str(folder)}

    def answer(self, name: str, command: str, environment: dict[str, str], config: object) -> tuple[int, str]:
        netns = self._netns if environment["CNI_NETNS"] == "/nonexistent" else environment["CNI_NETNS"]
        variables = {**environment, "CNI_COMMAND": command, "CNI_NETNS": netns}
        text = json.dumps(config).encode()
        return answer(call.handlers(name.split(maxsplit=1)[0]), variables, lambda: text)

    @contextlib.contextmanager
    def attached(self) -> Iterator[dict[str, Any]]:
        """The container has an interface, as a chained plugin finds it; the result, which is always the same."""
        status, output = self.answer("netlab", "ADD", an_environment("ADD"), self._before)
        assert status == 0, output
        try:
            yield json.loads(output)
        finally:
            assert self.answer("netlab", "DEL", an_environment("DEL"), self._before) == (0, "")


@pytest.mark.parametrize("name", CONFIGS)
@isolated
def test_every_answer_is_specified_and_a_failure_changes_nothing(tmp_path: Path, name: str) -> None:
    os.chdir(tmp_path)
    syscalls.mount("tmpfs", "/var/lib", "tmpfs")  # where reservations are that no dataDir is given for
    config = {"cniVersion": "1.1.0", "name": "net", **CONFIGS[name], **ATTACHMENTS}
    if "ipam" in config:
        config["ipam"] = {**config["ipam"], "dataDir": str(tmp_path / "data")}
    with pods.sandboxes(1) as (one,), IPRoute() as ip:
        ip.link("set", index=1, state="up")  # "lo" is the underlay of vxlan here
        ip.addr("add", index=1, address="192.0.2.1", prefixlen=24)
        caller = Caller(one, tmp_path / "before")
        chained = caller.attached if "prevResult" in config else contextlib.nullcontext
        with chained() as result:
            if result:
                config["prevResult"] = result
            for command in ("ADD", "DEL"):  # what is made once stays
                status, output = caller.answer(name, command, an_environment(command), config)
                assert status == 0, output

        @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(environments(), broken(config))
        def run(environment: dict[str, str], config: dict[str, Any]) -> None:
            command = environment["CNI_COMMAND"]
            with chained():
                before = state(one, tmp_path / "data")
                status, output = caller.answer(name, command, environment, config)
                is_specified(status, output)
                if command == "ADD" and status == 0:
                    with_result = {**config, "prevResult": json.loads(output)}
                    # "It is valid at once": SPEC.md, section 2, on CHECK.
                    asked = [caller.answer(name, command, environment, with_result) for command in ("CHECK", "DEL")]
                    assert asked == [(0, ""), (0, "")]
                assert state(one, tmp_path / "data") == before

        run()


@pytest.mark.parametrize("name", call.PLUGINS)
def test_bytes_that_are_no_configuration(name: str) -> None:
    @settings(deadline=None, database=None)
    @given(st.sampled_from(COMMANDS), st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
    def run(command: str, stdin: bytes) -> None:
        status, output = answer(call.handlers(name), an_environment(command), lambda: stdin)
        assert status == (command != "VERSION")
        is_specified(status, output)

    run()


@pytest.mark.usefixtures("way")
@isolated
def test_the_executables_add_nothing_to_that(tmp_path: Path) -> None:
    os.chdir(tmp_path)

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(CONFIGS)), environments(), st.data())
    def run(name: str, environment: dict[str, str], data: st.DataObject) -> None:
        config = data.draw(broken({"cniVersion": "1.1.0", "name": "net", **CONFIGS[name]}) | odder)
        answer = execute(name.split(maxsplit=1)[0], environment.pop("CNI_COMMAND"), config, **environment)
        assert answer.stderr == b""
        is_specified(answer.returncode, answer.stdout.decode())

    @settings(max_examples=20, deadline=None, database=None)
    @given(st.sampled_from(sorted(call.PLUGINS)), st.sampled_from(COMMANDS), st.data())
    def run_with_bytes(name: str, command: str, data: st.DataObject) -> None:
        whole = json.dumps({"cniVersion": "1.1.0", "name": "net", **CONFIGS[name]}).encode()
        place = data.draw(st.integers(0, len(whole)))
        text = data.draw(
            st.sampled_from([whole[:place], whole[:place] + b"'" + whole[place:], whole.replace(b"}", b",}")])
        )
        answer = execute(name, command, text)
        assert answer.stderr == b""
        is_specified(answer.returncode, answer.stdout.decode())

    syscalls.mount("tmpfs", "/var/lib", "tmpfs")
    run()
    run_with_bytes()
