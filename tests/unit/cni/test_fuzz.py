"""Whatever stands in the environment and on standard input, the answer is an error object and never a traceback."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.cni import bridge, errors, ipam, plugin

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.0/24", "fd00::/64", "::"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def fields(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


ranges = st.lists(
    st.lists(fields("subnet", "rangeStart", "rangeEnd", "gateway") | anything, max_size=2) | anything, max_size=2
)
ipams = st.builds(
    lambda some, given: {**some, "ranges": given, "type": "netlab-ipam"},
    fields("subnet", "routes", "resolvConf"),
    ranges,
)
configs = st.builds(
    lambda base, rest, given: {**base, **rest, "ipam": given},
    st.just({"cniVersion": "1.0.0", "name": "net"}),
    fields(
        "bridge",
        "mtu",
        "isGateway",
        "ipMasq",
        "hairpinMode",
        "prevResult",
        "runtimeConfig",
        "dns",
        "name",
        "cniVersion",
    ),
    ipams | anything,
)
environments = st.fixed_dictionaries(
    {
        "CNI_COMMAND": st.sampled_from(["ADD", "DEL", "CHECK"]) | st.text(max_size=4),
        "CNI_CONTAINERID": st.just("c") | st.text(max_size=4),
        "CNI_NETNS": st.just("/nonexistent"),
        "CNI_IFNAME": st.just("eth0") | st.text(max_size=17),
        "CNI_PATH": st.just("/nonexistent"),
        "CNI_ARGS": st.just("") | st.text(max_size=10),
    }
)


def answer(handlers: dict[str, plugin.Handler], environment: dict[str, str], stdin: bytes) -> tuple[int, Any]:
    stdout = io.StringIO()
    with (
        mock.patch("os.environ", environment),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.object(sys, "stdout", stdout),
    ):
        status = plugin.main(handlers)
    return status, json.loads(stdout.getvalue()) if stdout.getvalue() else None


def is_answered(status: int, said: Any) -> None:
    if status == 0:
        assert said is None or "ips" in said or "supportedVersions" in said
        return
    assert status == 1
    assert said["code"] != errors.INTERNAL, said
    assert isinstance(said["msg"], str)
    assert said["msg"]
    assert "\n" not in said["msg"]


MAIN: dict[str, plugin.Handler] = {"ADD": bridge.add, "CHECK": bridge.check}  # a DEL would ask the kernel
IPAM: dict[str, plugin.Handler] = {"ADD": ipam.add, "DEL": ipam.delete, "CHECK": ipam.check}


@settings(deadline=None)
@given(environments, configs | anything)
def test_main_plugin(environment: dict[str, str], config: Any) -> None:
    is_answered(*answer(MAIN, environment, json.dumps(config).encode()))


@settings(deadline=None)
@given(environments, configs)
def test_ipam_plugin(environment: dict[str, str], config: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(config["ipam"], dict):
            config = {**config, "ipam": {**config["ipam"], "dataDir": folder}}
        else:
            environment = {**environment, "CNI_COMMAND": "none"}  # it would read the machine's own folder
        is_answered(*answer(IPAM, environment, json.dumps(config).encode()))


@given(st.binary())
def test_bytes(stdin: bytes) -> None:
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "e", "CNI_PATH": "/"}
    status, said = answer(MAIN, environment, stdin)
    assert status == 1
    is_answered(status, said)
