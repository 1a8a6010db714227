"""Who sees what is mounted in a volume later, and what may be written to below it."""

from __future__ import annotations

import pytest

from netlab.machine.protocol import Mount
from netlab.machine.security_context import SecurityContext
from tests.system.machine.lab import Lab

SLEEP = ("sleep", "1000")
PRIVILEGED = SecurityContext(privileged=True)


def _volume(lab: Lab, name: str) -> str:
    """A volume as kubelets make them: a tmpfs on the node, whose mounts are shared."""
    path = f"/run/{name}"
    lab.on_node(
        "sh", "-c", f"mkdir {path} && mount -t tmpfs none {path} && mount --make-shared {path} && mkdir {path}/x"
    )
    return path


def _sees(lab: Lab, name: str, path: str) -> bool:
    return lab.node.exec(name, ["mountpoint", "-q", path], 30).exit_code == 0


def _run(lab: Lab, name: str, source: str, propagation: str, context: SecurityContext) -> None:
    mount = Mount(source=source, target="/v", propagation=propagation)
    lab.node.run_container(lab.spec(name, *SLEEP, mounts=[mount], security_context=context))


PROPAGATIONS = [("PRIVATE", False, False), ("HOST_TO_CONTAINER", True, False), ("BIDIRECTIONAL", True, True)]


@pytest.mark.parametrize(("propagation", "receives", "sends"), PROPAGATIONS)
def test_propagation(shared_lab: Lab, propagation: str, receives: bool, sends: bool) -> None:
    name = propagation.lower()
    source = _volume(shared_lab, name)
    shared_lab.on_node("mkdir", f"{source}/y")
    _run(shared_lab, name, source, propagation, PRIVILEGED)
    _run(shared_lab, f"{name}-other", source, "HOST_TO_CONTAINER", SecurityContext())
    shared_lab.on_node("mount", "-t", "tmpfs", "none", f"{source}/x")
    assert _sees(shared_lab, name, "/v/x") is receives
    assert shared_lab.node.exec(name, ["mount", "-t", "tmpfs", "none", "/v/y"], 30).exit_code == 0
    on_node = shared_lab.on_node("sh", "-c", f"mountpoint -q {source}/y && echo yes || echo no")
    assert on_node == ("yes\n" if sends else "no\n")
    assert _sees(shared_lab, f"{name}-other", "/v/y") is sends


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_mounted_below_is_read_only_if_asked_for(shared_lab: Lab, recursive: bool) -> None:
    name = f"recursive-{recursive}".lower()
    source = _volume(shared_lab, name)
    shared_lab.on_node("mount", "-t", "tmpfs", "none", f"{source}/x")
    mount = Mount(source=source, target="/v", read_only=True, recursive_read_only=recursive)
    script = "touch /v/f 2>/dev/null && echo outer; touch /v/x/f 2>/dev/null && echo inner; true"
    shared_lab.run(name, "sh", "-c", script, mounts=[mount])
    assert shared_lab.printed(name) == ("" if recursive else "inner\n")
