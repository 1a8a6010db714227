"""What is refused as 422 Invalid, with the path and Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import DEPLOYMENTS, ENDPOINTSLICES, EVENTS, NODES, PODS, REPLICASETS, SERVICES
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, endpoint_slice, pod, refused, service, update


def _container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i"} | fields])


def _strategy(**fields: Any) -> dict[str, Any]:
    return deployment(strategy={"rollingUpdate": fields})


def _with_file(path: str) -> dict[str, Any]:
    return pod(volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": path}]}}])


def _with_sysctls(*names: str) -> dict[str, Any]:
    return pod(securityContext={"sysctls": [{"name": name, "value": "1"} for name in names]})


def _with_token(path: str) -> dict[str, Any]:
    return pod(volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": path}}]}}])


@pytest.mark.parametrize(
    ("resource", "manifest", "message"),
    [
        (PODS, pod("Upper"), 'Pod "Upper" is invalid: metadata.name: Invalid value: "Upper": a lowercase RFC 1123'),
        (PODS, {"metadata": {}, "spec": pod()["spec"]}, "metadata.name: Required value: name or generateName"),
        (PODS, pod() | {"metadata": {"name": "p", "labels": {"a b": "c"}}}, 'metadata.labels: Invalid value: "a b"'),
        (PODS, pod() | {"metadata": {"name": "p", "labels": {"a": "-"}}}, 'metadata.labels: Invalid value: "-"'),
        (PODS, pod(containers=[]), "spec.containers: Required value"),
        (PODS, {"metadata": {"name": "p"}}, 'Pod "p" is invalid: spec: Required value'),
        (PODS, pod(containers=[{"image": "i"}]), "spec.containers[0].name: Required value"),
        (PODS, pod(containers=[{"name": "c"}]), "spec.containers[0].image: Required value"),
        (PODS, _container(name="C"), 'spec.containers[0].name: Invalid value: "C"'),
        (PODS, pod(containers=[{"name": "c", "image": "i"}] * 2), 'spec.containers[1].name: Duplicate value: "c"'),
        (PODS, pod(restartPolicy="Sometimes"), 'spec.restartPolicy: Unsupported value: "Sometimes"'),
        (PODS, pod(dnsPolicy="None"), "spec.dnsConfig.nameservers: Required value"),
        (
            PODS,
            _with_sysctls("foo-"),
            'spec.securityContext.sysctls[0].name: Invalid value: "foo-": must have at most 253',
        ),
        (PODS, _with_sysctls("net.x", "net.x"), 'spec.securityContext.sysctls[1].name: Duplicate value: "net.x"'),
        (PODS, _with_file("/etc/x"), 'volumes[0].configMap.items[0].path: Invalid value: "/etc/x": must be a relative'),
        (PODS, _with_file("a/../../x"), "must not contain '..'"),
        (PODS, _with_file("..x"), "must not start with '..'"),
        (PODS, _with_token(""), "spec.volumes[0].projected.sources[0].serviceAccountToken.path: Required value"),
        (PODS, pod(dnsConfig={"nameservers": ["x"]}), 'spec.dnsConfig.nameservers[0]: Invalid value: "x"'),
        (PODS, pod(dnsConfig={"nameservers": ["::1"] * 4}), "must not have more than 3 nameservers"),
        (PODS, pod(dnsConfig={"searches": ["a"] * 33}), "must not have more than 32 search paths"),
        (
            PODS,
            pod(dnsConfig={"searches": [f"{'a' * 60}.{n}" for n in range(1000, 1032)]}),
            "more than 2048 characters",
        ),
        (PODS, pod(dnsConfig={"searches": ["-a"]}), 'spec.dnsConfig.searches[0]: Invalid value: "-a"'),
        (PODS, pod(dnsConfig={"options": [{"name": ""}]}), "spec.dnsConfig.options[0]: Required value"),
        (PODS, pod(hostname="a.b"), 'spec.hostname: Invalid value: "a.b"'),
        (PODS, pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds: Invalid value: -1"),
        (PODS, pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator: Invalid value"),
        (PODS, pod(hostAliases=[{"ip": "1.2.3"}]), 'spec.hostAliases[0].ip: Invalid value: "1.2.3"'),
        (PODS, _container(ports=[{"containerPort": 0}]), "ports[0].containerPort: Invalid value: 0: must be between"),
        (PODS, _container(ports=[{"containerPort": 1, "protocol": "ICMP"}]), 'protocol: Unsupported value: "ICMP"'),
        (PODS, _container(ports=[{"containerPort": 1, "name": "1"}]), 'ports[0].name: Invalid value: "1"'),
        (PODS, _container(ports=[{"containerPort": 1, "name": "a"}] * 2), 'ports[1].name: Duplicate value: "a"'),
        (PODS, _container(ports=[{"containerPort": 1, "hostPort": 2}] * 2), "ports[1].hostPort: Duplicate value: 2"),
        (PODS, _container(env=[{"name": "1a"}]), 'env[0].name: Invalid value: "1a"'),
        (PODS, _container(livenessProbe={}), "livenessProbe: Required value: must specify a handler type"),
        (
            PODS,
            _container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (PODS, _container(readinessProbe={"httpGet": {"port": "no such port"}}), "readinessProbe.httpGet.port: Inv"),
        (
            PODS,
            _container(readinessProbe={"httpGet": {"port": 1}, "exec": {"command": ["x"]}}),
            "readinessProbe: Forbidden: may not specify more than 1 handler type",
        ),
        (DEPLOYMENTS, deployment(replicas=-1), 'Deployment.apps "d" is invalid: spec.replicas: Invalid value: -1'),
        (
            DEPLOYMENTS,
            deployment(selector={"matchLabels": {"app": "y"}}),
            '{"app":"x"}: `selector` does not match template `labels`',
        ),
        (DEPLOYMENTS, deployment(selector={}), "spec.selector: Invalid value"),
        (
            DEPLOYMENTS,
            deployment(selector={"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]}),
            '"Near" is not a valid label selector operator',
        ),
        (DEPLOYMENTS, deployment(strategy={"type": "Blue"}), 'spec.strategy.type: Unsupported value: "Blue"'),
        (DEPLOYMENTS, _strategy(maxSurge="x"), 'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x"'),
        (DEPLOYMENTS, _strategy(maxSurge=0, maxUnavailable=0), "may not be 0 when `maxSurge` is 0"),
        (
            REPLICASETS,
            deployment(template={"metadata": {"labels": {"app": "x"}}, "spec": pod(restartPolicy="Never")["spec"]}),
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (SERVICES, service("1s"), 'metadata.name: Invalid value: "1s": a DNS-1035 label'),
        (SERVICES, service(ports=[]), "spec.ports: Required value"),
        (SERVICES, service(ports=[{"port": 70000}]), "spec.ports[0].port: Invalid value: 70000"),
        (SERVICES, service(ports=[{"port": 1}, {"port": 2}]), "spec.ports[0].name: Required value"),
        (
            SERVICES,
            service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        (
            SERVICES,
            service(ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]),
            "spec.ports[1]: Duplicate value",
        ),
        (SERVICES, service(ports=[{"port": 1, "nodePort": 30000}]), "nodePort: Forbidden: may not be used when"),
        (SERVICES, service(type="Magic"), 'spec.type: Unsupported value: "Magic"'),
        (SERVICES, service(clusterIP="x"), 'spec.clusterIP: Invalid value: "x": must be a valid IP address'),
        (SERVICES, service(clusterIP="None", type="NodePort"), "may not be set to 'None' for NodePort"),
        (SERVICES, service(clusterIPs=["10.96.0.3", "10.96.0.4"]), "no more than one IP for each IP family"),
        (SERVICES, service(externalIPs=["127.0.0.1"]), "spec.externalIPs[0]: Invalid value"),
        (SERVICES, service(externalTrafficPolicy="Local"), "may only be set for externally-accessible services"),
        (SERVICES, service(type="NodePort", externalTrafficPolicy="Near"), "spec.externalTrafficPolicy: Unsupported"),
        (SERVICES, service(type="NodePort", healthCheckNodePort=30001), "spec.healthCheckNodePort: Invalid value"),
        (SERVICES, service(sessionAffinity="Cookie"), "spec.sessionAffinity: Unsupported value"),
        (
            SERVICES,
            service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
            "timeoutSeconds: Invalid value: 86401: must be between 1 and 86400, inclusive",
        ),
        (SERVICES, service(loadBalancerSourceRanges=["10.0.0.1"]), "must be a valid CIDR value"),
        (SERVICES, service(ipFamilies=["IPv5"]), 'spec.ipFamilies[0]: Unsupported value: "IPv5"'),
        (ENDPOINTSLICES, endpoint_slice(addressType="IPX"), 'addressType: Unsupported value: "IPX"'),
        (ENDPOINTSLICES, endpoint_slice(addressType="IPv6"), "must be an IPv6 address"),
        (ENDPOINTSLICES, endpoint_slice(endpoints=[{"addresses": []}]), "endpoints[0].addresses: Required value"),
        (ENDPOINTSLICES, endpoint_slice(endpoints=[{"addresses": ["127.0.0.1"]}]), "may not be unspecified, loopback"),
        (ENDPOINTSLICES, endpoint_slice(ports=[{"port": 1}, {"port": 2}]), 'ports[1].name: Duplicate value: ""'),
        (NODES, {"metadata": {"name": "n"}, "spec": {"podCIDR": "x"}}, 'spec.podCIDRs[0]: Invalid value: "x"'),
        (NODES, {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}, "each IP family"),
        (NODES, {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "No"}]}}, "effect: Unsupported"),
        (EVENTS, {"metadata": {"name": "e"}, "involvedObject": {"namespace": "other"}}, "does not match"),
    ],
)
def test_an_invalid_object_is_refused(registry: Registry, resource: Any, manifest: Any, message: str) -> None:
    with refused(422, message):
        create(registry, resource, manifest)
    assert list(registry.store.all(resource)) == []


@pytest.mark.parametrize(
    ("resource", "manifest", "change", "message"),
    [
        (PODS, pod(), {"spec": {"hostname": "other"}}, "spec: Forbidden: pod updates may not change fields other than"),
        (PODS, pod(), {"spec": {"nodeName": "node-1"}}, "spec: Forbidden"),
        (DEPLOYMENTS, deployment(), {"spec": {"selector": {"matchLabels": {"b": "c"}}}}, "`selector` does not match"),
        (
            DEPLOYMENTS,
            deployment(),
            {
                "spec": {
                    "selector": {"matchLabels": {"b": "c"}},
                    "template": {"metadata": {"labels": {"b": "c"}}, "spec": pod()["spec"]},
                }
            },
            "spec.selector: Invalid value",
        ),
        (ENDPOINTSLICES, endpoint_slice(), {"addressType": "FQDN"}, "addressType: Invalid value"),
        (SERVICES, service(), {"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}}, "may not change"),
        (
            NODES,
            {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}},
            {"spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]}},
            "spec.podCIDRs: Forbidden",
        ),
    ],
)
def test_what_may_not_change(registry: Registry, resource: Any, manifest: Any, change: Any, message: str) -> None:
    made = create(registry, resource, manifest)
    changed = {
        name: value | change.get(name, {}) if isinstance(value, dict) else change.get(name, value)
        for name, value in made.items()
    }
    with refused(422, message):
        update(registry, resource, changed)


def test_what_may_change_of_a_pod(registry: Registry) -> None:
    made = create(registry, PODS, pod())
    made["spec"]["containers"][0]["image"] = "agnhost:2.53"
    made["spec"]["tolerations"].append({"operator": "Exists"})
    changed = update(registry, PODS, made)
    assert changed["spec"]["containers"][0]["image"] == "agnhost:2.53"
    assert changed["metadata"]["generation"] == 2


def test_several_problems_are_told_together(registry: Registry) -> None:
    with refused(422, 'Pod "p" is invalid: [spec.containers[0].image: Required value, spec.restartPolicy: Unsupported'):
        create(registry, PODS, pod(containers=[{"name": "c"}], restartPolicy="x"))
