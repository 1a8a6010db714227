"""Requests to the plugin, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netlab.cni.plugins.request import Request

V4 = [{"subnet": "10.0.0.0/24"}]
V6 = [{"subnet": "fd00::/64"}]


def ask(
    data_dir: Path | str,
    container_id: str = "one",
    *,
    command: str = "ADD",
    ranges: Any = (V4,),
    args: str = "",
    more: dict[str, Any] | None = None,
    **ipam: Any,
) -> Request:
    """A request for a network called `net`; `ipam` are keys of the plugin, `more` those beside it."""
    config = {
        "cniVersion": "1.1.0",
        "name": "net",
        "ipam": {"type": "netlab-ipam", "dataDir": str(data_dir), "ranges": list(ranges), **ipam},
        **(more or {}),
    }
    environment = {"CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0", "CNI_ARGS": args}
    return Request(command, environment, config)


def addresses(result: dict[str, Any]) -> list[str]:
    """The addresses of a result, without their prefix lengths."""
    return [ip["address"].partition("/")[0] for ip in result["ips"]]
