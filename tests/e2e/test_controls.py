"""What a container, a manifest or an object of the API says controls no terminal, whatever command shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.visible import visible_lines
from tests.e2e.conftest import Netlab, eventually

ODD = "\x1b]0;owned\x07\r\x9b2J\u202egnp\u2028\nnetlab: all is well"

PRINT = "printf '\\033]0;owned\\007\\r\\302\\2332J\\342\\200\\256\\nnetlab: all is well\\n'"

SERVER = {"name": "c", "image": "agnhost", "args": ["netexec"]}

OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "odd", "annotations": {"note": ODD}},
        "spec": {
            "nodeName": "node-1",
            "containers": [
                SERVER | {"env": [{"name": "ODD", "value": ODD}]},
                {"name": "probed", "image": "sh", "command": ["sleep", "1000"]}
                | {"readinessProbe": {"exec": {"command": ["sh", "-c", f"{PRINT}; exit 1"]}, "periodSeconds": 1}},
                {"name": "absent", "image": "sh", "command": [f"/nonexistent/{ODD}"]},
                {"name": "image", "image": "nosuch" + ODD.replace("\n", "")},
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "odd"},
        "involvedObject": {"kind": ODD, "name": ODD, "namespace": "default"},
        "reason": ODD,
        "message": ODD,
        "type": ODD,
        "count": 1,
        "source": {"component": ODD},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "odd", "annotations": {"note": ODD}},
        "spec": {"selector": {"app": "odd"}, "ports": [{"port": 80}]},
    },
]


def scenario(folder: Path) -> Path:
    """A lesson that fails, and says odd things."""
    (folder / "manifests").mkdir(parents=True)
    (folder / "manifests" / "pod.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [SERVER]}})
    )
    header = {"name": "odd", "title": f"A title {ODD}", "traffic": "pod-to-pod", "nodes": 1}
    (folder / "scenario.yaml").write_text(json.dumps(header))
    (folder / "lab.yaml").write_text(json.dumps({"apiVersion": "netlab/v1", "kind": "Lab", "spec": {"network": ODD}}))
    (folder / "README.md").write_text(f"# Text\n\n{ODD}\n")
    (folder / "checks.py").write_text(
        "from netlab.scenario import Context, check\n\n\n"
        f"@check({'A check ' + ODD!r})\ndef fails(ctx: Context) -> None:\n"
        f"    ctx.expect({ODD!r}, {ODD[::-1]!r}, {ODD!r})\n\n\n"
        f"@check('Another')\ndef breaks(ctx: Context) -> None:\n    raise RuntimeError({ODD!r})\n"
    )
    return folder


@pytest.fixture(scope="module")
def odd(lab: Netlab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    wanted = {"Failed", "Unhealthy"}
    eventually(lambda: wanted <= {event["reason"] for event in lab.json("get", "events")["items"]})
    scenario(tmp_path_factory.getbasetemp() / "lesson")
    yield lab
    lab.ok("delete", "pod,service,event", "odd", "--grace-period", "1")


def manifest(**changes: object) -> str:
    """A manifest of a pod with something odd in it."""
    base = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": {"containers": [SERVER]}}
    return json.dumps(base | changes)


COMMANDS: list[tuple[list[str], str]] = [
    *((["get", kind, *form], "") for kind in ("pods", "events", "services", "all") for form in ([], ["-o", "wide"])),
    *((["get", "pods,events", "-o", form], "") for form in ("json", "yaml", "name")),
    (["status", "-o", "wide"], ""),
    (["topology"], ""),
    (["wait", "--for", "condition=Ready", "pod/odd", "--timeout", "0.1"], ""),
    (["wait", "--for", f"condition={ODD}", "pod/odd", "--timeout", "0.1"], ""),
    (["trace", "odd", "svc/odd"], ""),
    (["trace", "odd", "odd:8080"], ""),
    (["trace", f"odd{ODD}", "svc/odd"], ""),
    (["proxy", "explain", "odd", "svc/odd"], ""),
    (["proxy", "explain", "odd", ODD], ""),
    (["capture", "--all", "-v", "--duration", "1"], ""),
    (["capture", "--pod", ODD], ""),
    (["capture", "--all", "-f", ODD], ""),
    (["logs", ODD], ""),
    (["exec", f"odd{ODD}", "--", "true"], ""),
    (["get", ODD], ""),
    (["get", "pod", ODD], ""),
    (["get", "pods", "-l", ODD], ""),
    (["status", "--name", ODD], ""),
    (["scenario", "run", ODD], ""),
    (["apply", "-f", "-"], manifest(kind=ODD)),
    (["apply", "-f", "-"], manifest(apiVersion=ODD)),
    (["apply", "-f", "-"], manifest(metadata={"name": ODD})),
    (["apply", "-f", "-"], manifest(metadata={"name": "other", "labels": {ODD: ODD}})),
    (["apply", "-f", "-"], manifest(**{ODD: 1})),
    (["apply", "-f", "-"], manifest(spec={"containers": [SERVER | {ODD: 1}]})),
    (["apply", "-f", "-"], manifest(spec={"containers": [SERVER | {"image": ODD, "imagePullPolicy": ODD}]})),
    (["apply", "-f", "-"], manifest(spec={"containers": [SERVER], "restartPolicy": ODD})),
    (
        ["apply", "-f", "-"],
        manifest(spec={"containers": [SERVER], "nodeSelector": {"a": ODD}, "volumes": [{"name": ODD}]}),
    ),
    (["apply", "-f", "-"], f"kind: {ODD}"),
    (["apply", "-f", "-"], "\x1b]0;owned\x07: ]"),
    (["apply", "-f", "-"], "&\u202ea [*\u202eb]"),
    (["delete", "-f", "-"], manifest(metadata={"name": ODD})),
    (["up", "--name", "x", "-f", "{lesson}/lab.yaml"], ""),
    (["scenario", "show", "{lesson}"], ""),
    (["scenario", "run", "{lesson}", "--pcap-dir", "{lesson}-out", "--report", "{lesson}-report"], ""),
]


@pytest.mark.parametrize(("command", "stdin"), COMMANDS, ids=range(len(COMMANDS)))
def test_nothing_controls_the_terminal(
    odd: Netlab, tmp_path_factory: pytest.TempPathFactory, command: list[str], stdin: str
) -> None:
    lesson = str(tmp_path_factory.getbasetemp() / "lesson")
    argv = odd.argv(*(word.replace("{lesson}", lesson) for word in command))
    done = subprocess.run(
        argv, env=odd.environment, input=stdin.encode(), capture_output=True, timeout=120, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert said == visible_lines(said)
    assert "Traceback" not in said
    assert "internal error" not in said
    if "events" in command or any(ODD in word for word in command) or "lab.yaml" in command[-1]:
        assert "owned" in said  # it is shown, and not left out
    if "scenario" not in command:  # whose text, and whose lessons' values, have lines
        assert "\nnetlab: all is well" not in said
    for page in Path(f"{lesson}-report").rglob("*.html"):
        text = page.read_text()
        assert text == visible_lines(text)
    shutil.rmtree(f"{lesson}-report", ignore_errors=True)
    shutil.rmtree(f"{lesson}-out", ignore_errors=True)
