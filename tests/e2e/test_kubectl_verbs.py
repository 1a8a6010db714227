"""Real kubectl, old and new, against a lab: a table of verbs, and what each prints."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import BINARIES, Kubectl, kubectl_in, of_package
from tests.e2e.test_lab import WEB


@pytest.fixture(scope="module", params=BINARIES)
def kubectl(request: pytest.FixtureRequest, lab: Netlab) -> Iterator[Kubectl]:
    """One kubectl, with a namespace of its own in which WEB is available."""
    with kubectl_in(lab, request.param, f"of-{request.param}") as made:
        applied = made.ok("apply", "-f", "-", stdin=_MANIFEST).splitlines()
        assert applied == ["deployment.apps/web created", "service/web created"]
        assert "successfully rolled out" in made.ok("rollout", "status", "deployment/web")
        yield made


_MANIFEST = re.sub(r"\n\s*nodePort: \d+|, nodePort: \d+", "", WEB)

_HEADERS = [
    ("get nodes", "NAME STATUS ROLES AGE VERSION"),
    (
        "get nodes -o wide",
        "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
    ),
    ("get namespaces", "NAME STATUS AGE"),
    ("get pods", "NAME READY STATUS RESTARTS AGE"),
    ("get pods -o wide", "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED_NODE READINESS_GATES"),
    ("get pods -A", "NAMESPACE NAME READY STATUS RESTARTS AGE"),
    ("get pods --show-labels", "NAME READY STATUS RESTARTS AGE LABELS"),
    ("get services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
    ("get services -o wide", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR"),
    ("get deployments", "NAME READY UP-TO-DATE AVAILABLE AGE"),
    ("get deployments -o wide", "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"),
    ("get replicasets", "NAME DESIRED CURRENT READY AGE"),
    ("get endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
    ("get events", "LAST_SEEN TYPE REASON OBJECT MESSAGE"),
    ("get leases -n kube-node-lease", "NAME HOLDER AGE"),
]


@pytest.mark.parametrize(("command", "titles"), _HEADERS)
def test_columns(kubectl: Kubectl, command: str, titles: str) -> None:
    assert [title.replace(" ", "_") for title in kubectl.header(*command.split())] == titles.split()


def _pods(kubectl: Kubectl) -> list[str]:
    return sorted(kubectl.ok("get", "pods", "-l", "app=web", "-o", "name").split())


def test_pods_are_shown_as_they_are(kubectl: Kubectl) -> None:
    rows = [line.split() for line in kubectl.ok("get", "pods", "-l", "app=web", "--no-headers").splitlines()]
    assert [row[1:4] for row in rows] == [["1/1", "Running", "0"]] * 3
    assert [f"pod/{row[0]}" for row in rows] == _pods(kubectl)


def test_all_is_a_category(kubectl: Kubectl) -> None:
    found = {line.split("/")[0] for line in kubectl.ok("get", "all", "-o", "name").split()}
    assert found == {"pod", "service", "deployment.apps", "replicaset.apps"}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("get deployment web -o jsonpath={.status.availableReplicas}", "3"),
        ("get deploy/web svc/web -o name", "deployment.apps/web\nservice/web\n"),
        ("get pods -l app=web --chunk-size=1 -o jsonpath={.items[*].kind}", "Pod Pod Pod"),
        ("get pods -l app=web --field-selector=status.phase!=Running -o name", ""),
        ("wait --for=condition=Available deployment/web", "deployment.apps/web condition met\n"),
        ("annotate service web a=b", "service/web annotated\n"),
        ("label service web a=b --overwrite", "service/web labeled\n"),
        ("get --raw /readyz", "ok"),
        ("get --raw /livez/ping", "ok"),
    ],
)
def test_answers(kubectl: Kubectl, command: str, answer: str) -> None:
    assert kubectl.ok(*command.split()) == answer


def test_what_can_be_asked_for(kubectl: Kubectl) -> None:
    assert {"apps/v1", "coordination.k8s.io/v1", "discovery.k8s.io/v1", "v1"} <= set(kubectl.ok("api-versions").split())
    found = {
        line.split()[0]: line.split() for line in reversed(kubectl.ok("api-resources", "--no-headers").splitlines())
    }
    assert found["pods"] == ["pods", "po", "v1", "true", "Pod"]
    assert found["nodes"] == ["nodes", "no", "v1", "false", "Node"]
    assert found["deployments"] == ["deployments", "deploy", "apps/v1", "true", "Deployment"]


def test_the_client_is_not_too_new(kubectl: Kubectl) -> None:
    versions = kubectl.run("version")
    assert versions.returncode == 0
    if kubectl.binary == of_package():
        assert "WARNING" not in versions.stderr


def test_it_scales_and_waits(kubectl: Kubectl) -> None:
    kubectl.ok("scale", "deployment/web", "--replicas=1", "--current-replicas=3")
    eventually(lambda: len(_pods(kubectl)) == 1)
    assert "Expected replicas to be 3, was 1" in kubectl.fails(
        "scale", "deployment/web", "--replicas=2", "--current-replicas=3"
    )
    assert "greater than or equal to 0" in kubectl.fails("scale", "deployment/web", "--replicas=-1")
    kubectl.ok("scale", "deployment/web", "--replicas=3")
    kubectl.ok("rollout", "status", "deployment/web")
    assert len(_pods(kubectl)) == 3


def test_a_pod_lives_and_is_deleted(kubectl: Kubectl) -> None:
    kubectl.ok("run", "one", "--image=agnhost", "--restart=Never", "--", "pause")
    kubectl.ok("wait", "--for=condition=Ready", "pod/one", "--timeout=120s")
    assert "one" in kubectl.ok("describe", "pod", "one")
    assert "deleted" in kubectl.ok("delete", "pod", "one", "--grace-period=1")
    assert 'Error from server (NotFound): pods "one" not found' in kubectl.fails("get", "pod", "one")


_SMALL = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: small}
spec:
  replicas: 1
  selector: {matchLabels: {app: small}}
  template:
    metadata: {labels: {app: small}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: pause}]}
"""


def _small(kubectl: Kubectl, kinds: str) -> list[str]:
    return kubectl.ok("get", kinds, "-l", "app=small", "-o", "name").split()


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_what_becomes_of_dependents(kubectl: Kubectl, cascade: str) -> None:
    kubectl.ok("apply", "-f", "-", stdin=_SMALL)
    kubectl.ok("rollout", "status", "deployment/small")
    assert len(_small(kubectl, "replicasets,pods")) == 2
    kubectl.ok("delete", "deployment", "small", f"--cascade={cascade}")
    if cascade == "orphan":
        left = kubectl.json("get", "replicasets", "-l", "app=small")["items"]
        assert len(left) == 1
        assert not left[0]["metadata"].get("ownerReferences")
        assert len(_small(kubectl, "pods")) == 1
        kubectl.ok("delete", "replicasets", "-l", "app=small")
    if cascade == "foreground":
        assert _small(kubectl, "replicasets,pods") == []
    eventually(lambda: _small(kubectl, "replicasets,pods") == [])


def test_an_eviction_deletes(kubectl: Kubectl) -> None:
    kubectl.ok("run", "evicted", "--image=agnhost", "--restart=Never", "--", "pause")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "evicted", "namespace": kubectl.namespace},
        "deleteOptions": {"gracePeriodSeconds": 0},
    }
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/evicted/eviction"
    answer = json.loads(kubectl.ok("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction)))
    assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Success", 201)
    eventually(lambda: "evicted" not in kubectl.ok("get", "pods", "-o", "name"))


def test_a_node_is_drained(kubectl: Kubectl) -> None:
    (pod, *_) = kubectl.json("get", "pods", "-l", "app=web")["items"]
    node = pod["spec"]["nodeName"]
    try:
        kubectl.ok("drain", node, "--force", "--ignore-daemonsets", "--grace-period=1")
        assert "Ready,SchedulingDisabled" in kubectl.ok("get", "node", node)
        on_node = kubectl.ok("get", "pods", "-l", "app=web", f"--field-selector=spec.nodeName={node}", "-o", "name")
        assert on_node == ""
    finally:
        kubectl.ok("uncordon", node)
    kubectl.ok("rollout", "status", "deployment/web")


def test_it_watches(kubectl: Kubectl) -> None:
    command = kubectl.command("get", "pods", "-w", "--no-headers")
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kubectl.environment)
    try:
        assert watching.stdout is not None
        present = len(kubectl.ok("get", "pods", "-o", "name").split())
        assert all(watching.stdout.readline().split()[2] == "Running" for _ in range(present))
        kubectl.ok("run", "watched", "--image=agnhost", "--restart=Never", "--", "pause")
        seen: list[str] = []
        while not seen or seen[-1] != "Running":
            name, _, status, *_ = watching.stdout.readline().split()
            assert name == "watched"
            seen.append(status)
        assert seen[0] == "Pending"
    finally:
        watching.kill()
        watching.wait()
        kubectl.ok("delete", "pod", "watched", "--grace-period=0", "--force")


_CONFIG = """apiVersion: v1
kind: ConfigMap
metadata: {name: served}
data: {a: "%s"}
"""


def _managers(kubectl: Kubectl, path: str) -> dict[str, str]:
    found = json.loads(kubectl.ok("get", "--raw", f"/{path.format(kubectl.namespace)}"))
    return {entry["manager"]: entry["operation"] for entry in found["metadata"]["managedFields"]}


def test_it_applies_on_the_servers_side(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    assert kubectl.ok(*apply, stdin=_CONFIG % 1) == "configmap/served serverside-applied\n"
    assert kubectl.ok("diff", "--server-side", "-f", "-", stdin=_CONFIG % 1) == ""
    kubectl.ok("patch", "configmap", "served", "--type=merge", "-p", '{"data":{"a":"2","b":"1"}}')
    refused = kubectl.fails(*apply, stdin=_CONFIG % 1)
    assert 'conflict with "kubectl-patch" using v1' in refused
    assert "--force-conflicts" in refused
    assert "+  a:" in kubectl.run("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=_CONFIG % 1).stdout
    kubectl.ok(*apply, "--force-conflicts", "--field-manager=other", stdin=_CONFIG % 3)
    assert kubectl.ok("get", "configmap", "served", "-o", "jsonpath={.data}") == '{"a":"3","b":"1"}'
    managers = _managers(kubectl, "api/v1/namespaces/{}/configmaps/served")
    assert managers == {"other": "Apply", "kubectl-patch": "Update"}


def test_it_goes_over_from_client_side_apply(kubectl: Kubectl) -> None:
    client = _CONFIG.replace("served", "went-over")
    kubectl.ok("apply", "-f", "-", stdin=client % 1)
    kubectl.ok("apply", "--server-side", "-f", "-", stdin=client % 2)
    annotated = kubectl.ok("get", "configmap", "went-over", "-o", "yaml")
    assert '"data":{"a":"2"}' in annotated, "the way back is open"
    kubectl.ok("apply", "-f", "-", stdin=client % 3)


def test_every_writer_is_a_manager(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "managed", "--from-literal=a=1")
    kubectl.ok("label", "configmap", "managed", "l=1")
    kubectl.ok("annotate", "configmap", "managed", "n=1")
    edit = {"KUBE_EDITOR": 'sed -i \'s/a: "1"/a: "2"/\''}
    kubectl.environment |= edit
    kubectl.ok("edit", "configmap", "managed")
    shown = kubectl.ok("get", "configmap", "managed", "-o", "json")
    kubectl.ok("replace", "-f", "-", stdin=shown.replace('"l": "1"', '"l": "2"'))
    found = set(_managers(kubectl, "api/v1/namespaces/{}/configmaps/managed"))
    assert found >= {"kubectl-create", "kubectl-annotate", "kubectl-edit", "kubectl-replace"}
    nowhere = {"nodeSelector": {"no": "such"}, "containers": [{"name": "c", "image": "agnhost:2.47"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waits"}, "spec": nowhere}
    kubectl.ok("create", "-f", "-", stdin=json.dumps(pod))
    eventually(lambda: "kube-scheduler" in _managers(kubectl, "api/v1/namespaces/{}/pods/waits"))
    kubectl.ok("delete", "pod", "waits")
    deployment = _managers(kubectl, "apis/apps/v1/namespaces/{}/deployments/web")
    assert {"kubectl-client-side-apply", "kube-controller-manager"} <= set(deployment)
    assert set(_managers(kubectl, f"api/v1/namespaces/{{}}/{_pods(kubectl)[0].replace('pod', 'pods', 1)}")) == {
        "kube-controller-manager",
        "kubelet",
    }
