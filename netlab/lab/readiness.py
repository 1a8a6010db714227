"""Waits until a starting lab is up: until every node is Ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from netlab.api.blocking import BlockingClient
from netlab.api.core_types import NETWORK_UNAVAILABLE
from netlab.api.errors import ApiUnavailableError
from netlab.api.resources import NODES
from netlab.errors import TimedOutError, UnsupportedError
from netlab.lab import startup
from netlab.lab.paths import LabPaths
from netlab.lab.spec import LabSpec

PATIENCE = 60.0
"""Seconds for one more node to become Ready; a small lab takes about one for all of them."""

_POLL = 0.01
_LOOK = 0.5
"""Seconds between checks whether something has failed."""

_TROUBLES = frozenset({("Ready", "False"), (NETWORK_UNAVAILABLE, "True")})
"""The conditions that say why a node is not Ready."""


def is_ready(node: dict[str, Any], boot_id: str) -> bool:
    """Whether a node is Ready in this boot of the lab; the stored Node of an earlier boot may also say Ready."""
    return _registered(node, boot_id) and ("Ready", "True") in {(c["type"], c["status"]) for c in _conditions(node)}


def wait_ready(paths: LabPaths, spec: LabSpec, progress: Callable[[str], None], is_up: Callable[[], bool]) -> None:
    """Wait until all nodes are Ready; reports to `progress` how many are.

    Raises at once for a failure that waiting cannot repair, with its reason; raises `TimedOutError` when no further
    node becomes Ready for PATIENCE.
    """
    boot_id = paths.boot_id.read_text(encoding="ascii")
    lacking = dict.fromkeys(spec.node_names, "it has not registered")
    now = time.monotonic()
    deadline, next_look = now + PATIENCE, now + _LOOK
    for node in _changes(paths):
        now = time.monotonic()
        if node is not None:
            before = len(lacking)
            _note(node, boot_id, lacking)
            progress(f"{spec.nodes - len(lacking)} of {spec.nodes} nodes ready")
            if not lacking:
                return
            if len(lacking) < before:
                deadline = now + PATIENCE
        if now >= next_look:
            next_look = now + _LOOK
            if not is_up():
                startup.raise_ended(paths)
            startup.raise_failed(paths)
            startup.require_room(paths.directory, 0)
        if now >= deadline:
            raise _timed_out(paths, spec, lacking)


def _changes(paths: LabPaths) -> Iterator[dict[str, Any] | None]:
    """Every node, and again whenever it changes; None from time to time if nothing changes."""
    client = BlockingClient(paths.api_socket)
    while True:
        try:
            listed = client.request("GET", NODES.path())
            yield from listed["items"]
            params = {"resourceVersion": listed["metadata"]["resourceVersion"]}
            for event in client.watch(NODES.path(), params=params, idle_timeout=_LOOK):
                if event["type"] != "BOOKMARK":
                    yield event["object"]
        except ApiUnavailableError:
            time.sleep(_POLL)
        except TimeoutError:
            pass
        yield None


def _note(node: dict[str, Any], boot_id: str, lacking: dict[str, str]) -> None:
    name = node["metadata"]["name"]
    _raise_unsupported_network(node)
    if is_ready(node, boot_id):
        lacking.pop(name, None)
    elif _registered(node, boot_id):
        troubles = [c.get("message", "") for c in _conditions(node) if (c["type"], c["status"]) in _TROUBLES]
        lacking[name] = "; ".join(filter(None, troubles)) or "it is not Ready"


def _raise_unsupported_network(node: dict[str, Any]) -> None:
    """Raise the reason why a node has no pod network, if the machine lacks something: waiting would not help."""
    for condition in _conditions(node):
        unsupported = condition.get("reason") == UnsupportedError.__name__
        if unsupported and (condition["type"], condition["status"]) == (NETWORK_UNAVAILABLE, "True"):
            raise UnsupportedError(f"{node['metadata']['name']}: {condition['message']}")


def _timed_out(paths: LabPaths, spec: LabSpec, lacking: dict[str, str]) -> TimedOutError:
    node, reason = next(iter(lacking.items()))
    said = startup.last_words(paths, f"kubelet-{node}")
    return TimedOutError(
        f"lab {paths.name}: {spec.nodes - len(lacking)} of {spec.nodes} nodes ready, and no more in the last "
        f"{PATIENCE:.0f} s: {node}: {reason}{f' ({said})' if said else ''}"
    )


def _registered(node: dict[str, Any], boot_id: str) -> bool:
    boot: str = node.get("status", {}).get("nodeInfo", {}).get("bootID", "")
    return boot == boot_id


def _conditions(node: dict[str, Any]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = node.get("status", {}).get("conditions", [])
    return conditions
