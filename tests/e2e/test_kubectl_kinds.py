"""Real kubectl, old and new, with kinds beyond those of a network: created, shown, changed, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import BINARIES, Kubectl, kubectl_in
from tests.unit.api.test_certificates import asked


@pytest.fixture(scope="module", params=BINARIES)
def kubectl(request: pytest.FixtureRequest, lab: Netlab) -> Iterator[Kubectl]:
    """One kubectl, with an empty namespace of its own."""
    with kubectl_in(lab, request.param, f"kinds-{request.param}") as made:
        yield made


def test_a_quota_is_counted_and_kept_to(kubectl: Kubectl) -> None:
    def used_is(wanted: dict[str, str]) -> None:
        eventually(lambda: kubectl.json("get", "quota", "small").get("status", {}).get("used") == wanted)

    kubectl.ok("create", "configmap", "present")
    kubectl.ok("create", "quota", "small", "--hard=configmaps=4,count/secrets=1")
    assert kubectl.header("get", "quota") == ["NAME", "REQUEST", "LIMIT", "AGE"]
    used_is({"configmaps": "2", "count/secrets": "0"})  # with kube-root-ca.crt
    kubectl.ok("create", "secret", "generic", "first")
    assert kubectl.fails("create", "secret", "generic", "second").endswith(
        'secrets "second" is forbidden: exceeded quota: small, requested: count/secrets=1, used: count/secrets=1, '
        "limited: count/secrets=1\n"
    )
    kubectl.ok("patch", "quota", "small", "-p", '{"spec":{"hard":{"count/secrets":"2"}}}')
    eventually(lambda: kubectl.json("get", "quota", "small")["status"]["hard"]["count/secrets"] == "2")
    kubectl.ok("create", "secret", "generic", "second")
    used_is({"configmaps": "2", "count/secrets": "2"})
    kubectl.ok("delete", "secret", "first", "second")
    kubectl.ok("delete", "configmap", "present")
    used_is({"configmaps": "1", "count/secrets": "0"})
    kubectl.ok("delete", "quota", "small")
    assert kubectl.fails("get", "quota", "small") == 'Error from server (NotFound): resourcequotas "small" not found\n'


_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
"""


def test_a_manifest_is_applied_checked_and_explained(kubectl: Kubectl) -> None:
    assert kubectl.ok("apply", "-f", "-", stdin=_POLICY) == "networkpolicy.networking.k8s.io/closed created\n"
    assert kubectl.ok("apply", "-f", "-", stdin=_POLICY) == "networkpolicy.networking.k8s.io/closed unchanged\n"
    changed = _POLICY.replace("[Ingress]", "[Egress]")
    assert kubectl.ok("apply", "-f", "-", stdin=changed) == "networkpolicy.networking.k8s.io/closed configured\n"
    assert kubectl.ok("get", "netpol", "closed").split()[3:5] == ["closed", "app=web"]
    assert "Policy Types: Egress" in kubectl.ok("describe", "netpol", "closed")
    assert "policyTypes" in kubectl.fails("apply", "-f", "-", stdin=_POLICY.replace("policyTypes", "policyType"))
    assert "podSelector" in kubectl.ok("explain", "networkpolicy.spec")


def test_events_are_in_both_groups(kubectl: Kubectl) -> None:
    core = {each["metadata"]["uid"] for each in kubectl.json("get", "events", "-A")["items"]}
    later = kubectl.json("get", "events.events.k8s.io", "-A")["items"]
    assert core & {each["metadata"]["uid"] for each in later}
    assert all("regarding" in each and "involvedObject" not in each for each in later)


# --- workloads -------------------------------------------------------------------------------------------------------

_WORKLOAD = """
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}}}
spec:
  {more}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: c, image: pause, env: [{{name: STEP, value: "1"}}]}}]
"""


def _pods(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = kubectl.json("get", "pods", "-l", f"app={name}")["items"]
    return listed


def _steps(kubectl: Kubectl, name: str) -> set[str]:
    return {each["spec"]["containers"][0]["env"][0]["value"] for each in _pods(kubectl, name)}


def test_a_daemon_set_runs_on_each_node(kubectl: Kubectl, lab: Netlab) -> None:
    more = "selector: {matchLabels: {app: daemon}}"
    manifest = _WORKLOAD.format(version="apps/v1", kind="DaemonSet", name="daemon", more=more)
    kubectl.ok("apply", "-f", "-", stdin=manifest)
    assert "successfully rolled out" in kubectl.ok("rollout", "status", "daemonset/daemon")
    nodes = {each["metadata"]["name"] for each in kubectl.json("get", "nodes")["items"]}
    assert {each["spec"]["nodeName"] for each in _pods(kubectl, "daemon")} == nodes
    row = kubectl.ok("get", "ds", "daemon").splitlines()[1].split()
    assert row[:7] == ["daemon", *[str(len(nodes))] * 5, "<none>"]
    kubectl.ok("set", "env", "daemonset/daemon", "STEP=2")
    assert "successfully rolled out" in kubectl.ok("rollout", "status", "daemonset/daemon")
    assert _steps(kubectl, "daemon") == {"2"}
    assert len(kubectl.json("get", "controllerrevisions", "-l", "app=daemon")["items"]) == 2
    assert "rolled back" in kubectl.ok("rollout", "undo", "daemonset/daemon")
    assert "successfully rolled out" in kubectl.ok("rollout", "status", "daemonset/daemon")
    assert _steps(kubectl, "daemon") == {"1"}
    kubectl.ok("delete", "daemonset", "daemon")
    eventually(lambda: not _pods(kubectl, "daemon"))


_CLAIMED = """selector: {matchLabels: {app: state}}
  serviceName: state
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Delete}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}"""


def test_a_stateful_set_keeps_names_order_and_claims(kubectl: Kubectl) -> None:
    def claims() -> list[str]:
        return [each["metadata"]["name"] for each in kubectl.json("get", "pvc")["items"]]

    more = _CLAIMED
    manifest = _WORKLOAD.format(version="apps/v1", kind="StatefulSet", name="state", more=more)
    kubectl.ok("apply", "-f", "-", stdin=manifest)
    kubectl.ok("rollout", "status", "statefulset/state")
    pods = _pods(kubectl, "state")
    assert [each["metadata"]["name"] for each in pods] == ["state-0", "state-1"]
    assert [(each["spec"]["hostname"], each["spec"]["subdomain"]) for each in pods] == [
        ("state-0", "state"),
        ("state-1", "state"),
    ]
    assert pods[0]["metadata"]["creationTimestamp"] <= pods[1]["metadata"]["creationTimestamp"]
    assert pods[1]["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data-state-1"}
    assert claims() == ["data-state-0", "data-state-1"]
    kubectl.ok("set", "env", "statefulset/state", "STEP=2")
    kubectl.ok("rollout", "status", "statefulset/state")
    assert _steps(kubectl, "state") == {"2"}
    kubectl.ok("rollout", "undo", "statefulset/state")
    kubectl.ok("rollout", "status", "statefulset/state")
    assert _steps(kubectl, "state") == {"1"}
    kubectl.ok("scale", "statefulset/state", "--replicas=1")
    eventually(lambda: [each["metadata"]["name"] for each in _pods(kubectl, "state")] == ["state-0"])
    assert "create Pod state-1 in StatefulSet state successful" in kubectl.ok("describe", "statefulset", "state")
    eventually(lambda: claims() == ["data-state-0"])
    kubectl.ok("delete", "statefulset", "state")
    eventually(lambda: not _pods(kubectl, "state"))
    kubectl.ok("delete", "pvc", "data-state-0")


def test_a_replication_controller_scales(kubectl: Kubectl) -> None:
    manifest = _WORKLOAD.format(version="v1", kind="ReplicationController", name="rc", more="replicas: 1")
    kubectl.ok("create", "-f", "-", stdin=manifest)
    kubectl.ok("scale", "rc/rc", "--replicas=2")
    eventually(lambda: kubectl.ok("get", "rc", "rc").splitlines()[1].split()[:4] == ["rc", "2", "2", "2"])
    kubectl.ok("expose", "rc/rc", "--port=80")
    assert kubectl.json("get", "service", "rc")["spec"]["selector"] == {"app": "rc"}
    kubectl.ok("delete", "rc/rc", "service/rc")
    eventually(lambda: not _pods(kubectl, "rc"))


_JOB = """
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {more}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers: [{{name: c, image: busybox, command: [sh, -c, "{command}"]}}]
"""


def _job(kubectl: Kubectl, name: str, command: str, more: str = "completions: 1") -> None:
    kubectl.ok("apply", "-f", "-", stdin=_JOB.format(name=name, command=command, more=more))


def test_a_job_runs_to_its_end(kubectl: Kubectl) -> None:
    _job(kubectl, "once", "exit 0", "completions: 3\n  parallelism: 2")
    kubectl.ok("wait", "--for=condition=complete", "job/once", "--timeout=120s")
    job = kubectl.json("get", "job", "once")
    assert (job["status"]["succeeded"], job["status"].get("failed", 0)) == (3, 0)
    assert kubectl.ok("get", "job", "once").splitlines()[1].split()[:3] == ["once", "Complete", "3/3"]
    pods = kubectl.json("get", "pods", "-l", "job-name=once")["items"]
    assert len(pods) == 3
    assert not any(each["metadata"].get("finalizers") for each in pods)
    kubectl.ok("delete", "job", "once")
    eventually(lambda: not kubectl.json("get", "pods", "-l", "job-name=once")["items"])


def test_an_indexed_job_gives_each_pod_its_index(kubectl: Kubectl) -> None:
    more = "completions: 3\n  parallelism: 3\n  completionMode: Indexed\n  backoffLimitPerIndex: 0"
    _job(kubectl, "indexed", "test $JOB_COMPLETION_INDEX != 1 && hostname | grep indexed-$JOB_COMPLETION_INDEX", more)
    kubectl.ok("wait", "--for=condition=failed", "job/indexed", "--timeout=120s")
    status = kubectl.json("get", "job", "indexed")["status"]
    assert (status["completedIndexes"], status["failedIndexes"], status["failed"]) == ("0,2", "1", 1)
    assert status["conditions"][-1]["reason"] == "FailedIndexes"
    kubectl.ok("delete", "job", "indexed")


def test_a_job_is_suspended_and_ended(kubectl: Kubectl) -> None:
    _job(kubectl, "long", "sleep 1000", "suspend: true")
    eventually(lambda: kubectl.ok("get", "job", "long").splitlines()[1].split()[1] == "Suspended")
    assert not kubectl.json("get", "pods", "-l", "job-name=long")["items"]
    kubectl.ok("patch", "job", "long", "-p", '{"spec":{"suspend":false}}')
    eventually(lambda: kubectl.json("get", "job", "long")["status"].get("ready") == 1)
    kubectl.ok("delete", "pod", "-l", "job-name=long", "--wait=false")
    eventually(lambda: kubectl.json("get", "job", "long")["status"].get("failed") == 1)
    kubectl.ok("delete", "job", "long", "--cascade=foreground")
    eventually(lambda: not kubectl.json("get", "pods", "-l", "job-name=long")["items"])


def test_a_cron_job_starts_jobs(kubectl: Kubectl) -> None:
    kubectl.ok("create", "cronjob", "tick", "--image=busybox", "--schedule=@every 1s", "--", "true")
    eventually(lambda: "lastSuccessfulTime" in kubectl.json("get", "cronjob", "tick").get("status", {}))
    kubectl.ok("patch", "cronjob", "tick", "-p", '{"spec":{"suspend":true}}')
    kubectl.ok("create", "job", "by-hand", "--from=cronjob/tick")
    kubectl.ok("wait", "--for=condition=complete", "job/by-hand", "--timeout=120s")
    assert kubectl.ok("get", "cronjob", "tick").splitlines()[1].split()[:3] == ["tick", "@every", "1s"]
    kubectl.ok("delete", "cronjob", "tick")
    eventually(lambda: not kubectl.json("get", "jobs")["items"])


def test_a_budget_forbids_evictions(kubectl: Kubectl) -> None:
    manifest = _WORKLOAD.format(version="v1", kind="ReplicationController", name="few", more="replicas: 2")
    kubectl.ok("create", "-f", "-", stdin=manifest)
    kubectl.ok("create", "poddisruptionbudget", "few", "--selector=app=few", "--min-available=2")
    eventually(lambda: kubectl.json("get", "pdb", "few")["status"]["currentHealthy"] == 2)
    (pod, _) = [each["metadata"]["name"] for each in _pods(kubectl, "few")]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    refused = kubectl.fails("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    assert "Cannot evict pod as it would violate the pod's disruption budget." in refused
    kubectl.ok("patch", "pdb", "few", "--type=merge", "-p", '{"spec":{"minAvailable":1}}')
    eventually(lambda: kubectl.json("get", "pdb", "few")["status"]["disruptionsAllowed"] == 1)
    kubectl.ok("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    eventually(lambda: pod not in [each["metadata"]["name"] for each in _pods(kubectl, "few")])
    kubectl.ok("delete", "rc/few", "pdb/few")


_CONFIGURED = """
apiVersion: v1
kind: Pod
metadata: {name: configured}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox
    command: [sh, -c, 'test "$COLOR $P_key $USER_NAME" = "blue val me"']
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: USER_NAME, valueFrom: {secretKeyRef: {name: login, key: user}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: login, key: none, optional: true}}}
    envFrom:
    - {prefix: P_, configMapRef: {name: settings}}
"""


def _waits(kubectl: Kubectl) -> str:
    statuses = kubectl.json("get", "pod", "configured")["status"].get("containerStatuses", [{}])
    waiting = statuses[0].get("state", {}).get("waiting", {})
    return f"{waiting.get('reason')}: {waiting.get('message')}"


def test_variables_come_from_config_maps_and_secrets(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=key=val")
    kubectl.ok("apply", "-f", "-", stdin=_CONFIGURED)
    eventually(lambda: "CreateContainerConfigError" in _waits(kubectl))
    assert 'secret "login" not found' in _waits(kubectl)
    kubectl.ok("create", "secret", "generic", "login", "--from-literal=user=me")
    assert kubectl.ok("get", "secret", "login").splitlines()[1].split()[:3] == ["login", "Opaque", "1"]
    eventually(lambda: kubectl.json("get", "pod", "configured")["status"]["phase"] in ("Succeeded", "Failed"))
    assert kubectl.json("get", "pod", "configured")["status"]["phase"] == "Succeeded"
    assert "me" not in kubectl.ok("describe", "secret", "login").split()
    kubectl.ok("delete", "pod/configured", "secret/login", "configmap/settings")


_ENDPOINTS = """
apiVersion: v1
kind: Endpoints
metadata: {name: elsewhere}
subsets:
- addresses: [{ip: 192.0.2.253}]
  ports: [{port: 8080}]
"""


def test_endpoints_follow_slices_and_slices_follow_endpoints(kubectl: Kubectl) -> None:
    manifest = _WORKLOAD.format(version="v1", kind="ReplicationController", name="ep", more="replicas: 1")
    kubectl.ok("create", "-f", "-", stdin=manifest)
    kubectl.ok("expose", "rc/ep", "--port=80")

    def ready() -> bool:
        subsets = kubectl.json("get", "endpoints").get("items", [])
        found = [each for each in subsets if each["metadata"]["name"] == "ep"]
        return bool(found and found[0].get("subsets") and found[0]["subsets"][0].get("addresses"))

    eventually(ready)
    assert "Endpoints:" in kubectl.ok("describe", "service", "ep")
    kubectl.ok("delete", "service/ep", "rc/ep")
    eventually(lambda: "ep" not in [each["metadata"]["name"] for each in kubectl.json("get", "endpoints")["items"]])
    kubectl.ok("create", "service", "clusterip", "elsewhere", "--tcp=80:8080")
    kubectl.ok("patch", "service", "elsewhere", "--type=json", "-p", '[{"op":"remove","path":"/spec/selector"}]')
    kubectl.ok("apply", "-f", "-", stdin=_ENDPOINTS)

    def mirrored() -> list[str]:
        items = kubectl.json("get", "endpointslices", "-l", "kubernetes.io/service-name=elsewhere")["items"]
        by = [
            each
            for each in items
            if "mirroring" in each["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
        ]
        return [each["endpoints"][0]["addresses"][0] for each in by]

    eventually(lambda: mirrored() == ["192.0.2.253"])
    kubectl.ok("apply", "-f", "-", stdin=_ENDPOINTS.replace("192.0.2.253", "192.0.2.1"))
    eventually(lambda: mirrored() == ["192.0.2.1"])
    kubectl.ok("delete", "endpoints", "elsewhere")
    eventually(lambda: not mirrored())
    kubectl.ok("delete", "service", "elsewhere")


def test_a_kubelets_own_certificate_is_approved_by_itself(kubectl: Kubectl) -> None:
    def ask(name: str, user: str, signer: str, usage: str, names: tuple[str, ...] = ()) -> str:
        spec = {
            "request": asked("system:node:node-1", ("system:nodes",), names),
            "signerName": f"kubernetes.io/{signer}",
            "usages": ["digital signature", usage],
        }
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        manifest = json.dumps(kind | {"metadata": {"name": f"{kubectl.namespace}-{name}"}, "spec": spec})
        kubectl.ok("create", "-f", "-", f"--as={user}", "--as-group=system:nodes", stdin=manifest)
        return f"{kubectl.namespace}-{name}"

    def state(name: str) -> str:
        return kubectl.ok("get", "csr", name, "--no-headers").split()[-1]

    served = ask("serving", "system:node:node-1", "kubelet-serving", "server auth", ("elsewhere",))
    own = ask("own", "system:node:node-1", "kube-apiserver-client-kubelet", "client auth")
    eventually(lambda: state(own) == "Approved,Issued")
    assert state(served) == "Pending"
    kubectl.ok("certificate", "approve", served)
    eventually(lambda: state(served) == "Approved,Issued")
    kubectl.ok("delete", "csr", own, served)
