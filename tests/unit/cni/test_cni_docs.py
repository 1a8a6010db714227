"""The examples of docs/cni.md are what the plugins take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.ipam import config as ipam
from netlab.cni.plugins.main.config import Config
from netlab.cni.plugins.main.peers import parse_peers
from netlab.cni.plugins.request import Request
from netlab.cni.runtime.configurations import parse_network

TEXT = (Path(__file__).parents[3] / "docs" / "cni.md").read_text(encoding="utf-8")
EXAMPLES: list[Any] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]


def test_there_is_an_example_of_a_list_of_each_mode_and_of_a_peers_file() -> None:
    modes = [example.get("mode", "list") if isinstance(example, dict) else "peers" for example in EXAMPLES]
    assert modes == ["list", "routed", "vxlan", "peers"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example)[:20])
def test_an_example_is_taken(example: Any) -> None:
    if isinstance(example, list):
        assert len(parse_peers(json.dumps(example).encode())) == 2
        return
    plugins = [example]
    if "plugins" in example:
        plugins = list(parse_network(json.dumps(example).encode(), "docs").plugins)
    main = {**plugins[0], "name": "net", "cniVersion": "1.1.0"}
    request = Request("ADD", {}, main)
    assert Config(request).mode == main.get("mode", "bridge")
    assert ipam.Config(request).sets
