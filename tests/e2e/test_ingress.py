"""Ingresses in a lab of two families: from the outside through HAProxy to pods, while all of it changes."""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.unit.ingress.objects import pair

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/bin") is None, reason="haproxy is not installed"
)

_WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: agnhost
        args: [netexec]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: netlab
  tls: [{secretName: web, hosts: [web.test]}]
  rules:
  - host: web.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
      - {path: /later, pathType: Prefix, backend: {service: {name: later, port: {number: 80}}}}
"""
_LATER = """
apiVersion: v1
kind: Service
metadata: {name: later}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


@pytest.fixture(scope="module")
def served(netlab: Netlab) -> Netlab:
    """A lab with an Ingress that is served."""
    netlab.ok("up", "--nodes", "2", "--dual-stack", "--ingress", "--no-dns")
    chain, key = pair("web.test")
    data = {"tls.crt": base64.b64encode(chain.encode()).decode(), "tls.key": base64.b64encode(key.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "type": "kubernetes.io/tls"}
    netlab.ok("apply", "-f", "-", stdin=f"{_WEB}---\n{json.dumps(secret | {'data': data})}\n")
    netlab.wait_available("web", 2)
    netlab.wait_available("ingress", 1, "-n", "kube-system")
    eventually(lambda: addresses(netlab) != [])
    eventually(lambda: asked(netlab, "/hostname").startswith("web-"))
    return netlab


def addresses(netlab: Netlab) -> list[str]:
    status = netlab.json("get", "ingress", "web")["status"]["loadBalancer"]
    return [each["ip"] for each in status.get("ingress", [])]


def curl(url: str, *options: str, address: str = "192.0.2.128") -> list[str]:
    where = f"[{address}]" if ":" in address else address
    resolve = [word for port in (80, 443) for word in ("--resolve", f"web.test:{port}:{where}")]
    return ["exec", "outside", "--", "curl", "-s", "--max-time", "60", *resolve, *options, url]


def asked(netlab: Netlab, path: str, *options: str) -> str:
    return netlab.run(*curl(f"http://web.test{path}", *options)).stdout


def status_of(netlab: Netlab, path: str) -> str:
    return asked(netlab, path, "-o", "/dev/null", "-w", "%{http_code}")


def test_it_is_reached_by_both_families_and_by_tls(served: Netlab) -> None:
    found = addresses(served)
    assert found == ["192.0.2.128", "2001:db8::1:0"]
    for address, outside in zip(found, ("192.0.2.253", "2001:db8::fd"), strict=True):
        said = served.ok(*curl("http://web.test/header?key=X-Forwarded-For", address=address))
        assert said == outside
    served.ok("exec", "outside", "--", "sh", "-c", "cat >/tmp/web.pem", stdin=pair("web.test")[0])
    url = "https://web.test/header?key=X-Forwarded-Proto"
    assert served.ok(*curl(url, "--cacert", "/tmp/web.pem")) == "https"


def test_what_is_missing_is_said_until_it_is_there(served: Netlab) -> None:
    said = [each["message"] for each in served.json("get", "events")["items"] if each["reason"] == "BackendNotFound"]
    assert said == ["spec.rules[0].http.paths[1].backend: there is no Service default/later: requests get 503"]
    assert status_of(served, "/later") == "503"
    served.ok("apply", "-f", "-", stdin=_LATER)
    eventually(lambda: status_of(served, "/later") == "200")


def test_no_request_is_lost_while_pods_are_replaced(served: Netlab) -> None:
    before = set(served.ok("get", "pods", "-o", "name").split())
    served.ok("kubectl", "rollout", "restart", "deployment/web")
    answers = []

    def replaced() -> bool:
        loop = "for n in 1 2 3 4 5 6 7 8 9; do curl -s -o /dev/null -w '%{http_code} ' -H Host:web.test $0; done"
        answers.extend(served.ok("exec", "outside", "--", "sh", "-c", loop, "http://192.0.2.128/").split())
        status = served.json("get", "deployment", "web")["status"]
        return status.get("availableReplicas") == 2 and not before & set(served.ok("get", "pods", "-o", "name").split())

    eventually(replaced)
    assert set(answers) == {"200"}


def test_an_haproxy_that_dies_is_replaced(served: Netlab) -> None:
    (name,) = (each.partition("/")[2] for each in served.ok("get", "pods", "-n", "kube-system", "-o", "name").split())

    def restarts() -> int:
        pod = served.json("get", "pod", name, "-n", "kube-system")
        return int(pod["status"]["containerStatuses"][0]["restartCount"])

    before = restarts()
    kill = "for each in /proc/[0-9]*; do grep -qs haproxy $each/comm && kill -9 ${each#/proc/}; done; true"
    served.ok("exec", "-n", "kube-system", name, "--", "sh", "-c", kill)
    eventually(lambda: restarts() == before + 1)
    eventually(lambda: asked(served, "/hostname").startswith("web-"))


def test_an_ingress_of_another_class_is_let_go(served: Netlab) -> None:
    change = json.dumps({"spec": {"ingressClassName": "other"}})
    served.ok("kubectl", "patch", "ingress", "web", "--type", "merge", "-p", change)
    eventually(lambda: status_of(served, "/hostname") == "404")
    eventually(lambda: addresses(served) == [])
