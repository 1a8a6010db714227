"""A real Prometheus scrapes a lab, set up as docs/statistics.md says."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Netlab, eventually
from tests.sandbox import isolated

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LISTEN = "127.0.0.1:9090"
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: loop, image: host, command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 100m}}}]
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus: apt-get install prometheus")
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on the PATH")
@isolated
def test_prometheus_scrapes_a_lab() -> None:
    # The lab's API and Prometheus listen on the loopback of this network namespace, which the test has for itself.
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    home, folder = Path(tempfile.mkdtemp(prefix="netlab-")), Path(tempfile.mkdtemp(prefix="prometheus-"))
    netlab = Netlab(home)
    try:
        netlab.ok("up", "--nodes", "1")
        netlab.ok("apply", "-f", str(EXAMPLES / "prometheus.yaml"))
        netlab.ok("apply", "-f", "-", "--wait", stdin=PODS)
        configure(netlab, folder)
        argv = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address={LISTEN}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*argv, "--storage.tsdb.path=data"], cwd=folder, stdout=log, stderr=log)
        try:
            eventually(lambda: query("sum(up)") == "3" or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            rate = 'sum(rate(container_cpu_usage_seconds_total{pod="busy",container="loop",node="node-1"}[1m]))'
            eventually(lambda: float(query(rate)) > 0.0)
            assert int(query('kubelet_running_pods{node="node-1"}')) >= 1
        finally:
            process.kill()
            process.wait()
    finally:
        netlab.run("down", "--all")
        shutil.rmtree(home)
        shutil.rmtree(folder)


def configure(netlab: Netlab, folder: Path) -> None:
    """As the documentation has it, but often."""
    cluster = yaml.safe_load(netlab.ok("kubeconfig"))["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (folder / "token").write_text(netlab.ok("kubectl", "create", "token", "prometheus", "--duration=24h").strip())
    template = '[{"targets": [{{range $i, $n := .items}}{{if $i}}, {{end}}"{{$n.metadata.name}}"{{end}}]}]'
    (folder / "nodes.json").write_text(netlab.ok("kubectl", "get", "nodes", "-o", f"go-template={template}"))
    text = (EXAMPLES / "prometheus.yml").read_text().replace("SERVER", cluster["server"].removeprefix("https://"))
    (folder / "prometheus.yml").write_text(text.replace("scrape_interval: 15s", "scrape_interval: 1s"))


def query(expression: str) -> str:
    """The value of an expression that has one; "0" before there is one."""
    address = f"http://{LISTEN}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            found = json.load(response)["data"]["result"]
    except OSError:
        return "0"
    return str(found[0]["value"][1]) if found else "0"
