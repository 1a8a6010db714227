"""The runtime with the real plugins: what it adds it can remove, whatever became of the container meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.changes import compare, snapshot
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.cni.spec.errors import CniError
from tests.sandbox import isolated
from tests.system.cni import pods

pytestmark = pytest.mark.usefixtures("way")


def chain(data_dir: Path, **more: Any) -> NetworkList:
    """The four plugins together, as `netlab cni install` has them."""
    main = {
        "type": "netlab",
        "isDefaultGateway": True,
        "ipMasq": True,
        "capabilities": {"ips": True, "mac": True},
        "ipam": {"type": "netlab-ipam", "dataDir": str(data_dir), "ranges": pods.FAMILIES["dual"]},
    }
    plugins = [
        main,
        {"type": "netlab-portmap", "capabilities": {"portMappings": True}},
        {"type": "netlab-bandwidth", "capabilities": {"bandwidth": True}},
    ]
    return parse_network(json.dumps({"name": "net", "plugins": plugins, **more}).encode(), "test")


ASKED = {
    "ips": ["10.244.1.77"],
    "mac": "02:00:00:00:00:77",
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000},
}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@isolated
def test_a_chain_of_all_plugins(tmp_path: Path, version: str) -> None:
    runtime, network = pods.runtime(tmp_path), chain(tmp_path / "data", cniVersion=version)
    with pods.sandboxes(1) as (netns,):
        attachment = Attachment("c1", netns, runtime_config=ASKED)
        runtime.status(network)
        result = runtime.add(network, attachment)
        assert result["cniVersion"] == version
        assert result["ips"][0]["address"] == "10.244.1.77/24"
        made = snapshot(tmp_path / "data")
        for sought in ("veth", "8080", "htb", "10.244.1.77"):
            assert any(sought in line.text for line in made), sought
        if version != "0.3.1":
            runtime.check(network, attachment)
        runtime.delete(network, attachment)
        runtime.delete(network, attachment)
        left = [line.text for line in snapshot(tmp_path / "data")]
        assert not [text for text in left if "c1/eth0" in text or "veth" in text]


@isolated
def test_the_version_is_the_highest_that_the_plugins_and_the_runtime_know(tmp_path: Path) -> None:
    runtime = pods.runtime(tmp_path)
    network = chain(tmp_path / "data", cniVersion="0.4.0", cniVersions=["1.1.0", "0.4.0", "9.0.0"])
    with pods.sandboxes(1) as (netns,):
        assert runtime.add(network, Attachment("c1", netns))["cniVersion"] == "1.1.0"


@isolated
def test_garbage_of_containers_that_are_gone(tmp_path: Path) -> None:
    """One is in the cache still, one is known to the plugins alone, one lives and goes on."""
    runtime, network = pods.runtime(tmp_path), chain(tmp_path / "data", cniVersion="1.1.0")
    with pods.sandboxes(1) as (netns,):
        runtime.add(network, Attachment("alive", netns))
        before = snapshot(tmp_path / "data")
        with pods.sandboxes(2) as gone:
            for name, there in zip(("cached", "unknown"), gone, strict=True):
                runtime.add(network, Attachment(name, there))
        (tmp_path / "cache" / "results" / "net-unknown-eth0").unlink()
        assert [one.container_id for one in runtime.collect_garbage(network, {("alive", "eth0")})] == ["cached"]
        runtime.check(network, Attachment("alive", netns))
        assert [change for change in compare(before, snapshot(tmp_path / "data")) if "eth0" in change.line.text] == []


@isolated
def test_a_plugin_that_is_missing_at_the_end_of_the_chain_leaves_nothing(tmp_path: Path) -> None:
    runtime = pods.runtime(tmp_path)
    whole = chain(tmp_path / "data", cniVersion="1.0.0")
    broken = NetworkList("net", "1.0.0", (*whole.plugins, {"type": "none"}))
    with pods.sandboxes(1) as (netns,):
        with pytest.raises(CniError, match="CNI plugin none"):
            runtime.add(broken, Attachment("c1", netns, runtime_config=ASKED))
        assert not [line for line in snapshot(tmp_path / "data") if "c1/eth0" in line.text or "veth" in line.text]
        assert runtime.attachments(whole) == []
        runtime.add(whole, Attachment("c1", netns, runtime_config=ASKED))
