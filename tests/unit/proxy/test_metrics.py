"""What is counted, under which names, as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netlab.proxy.config import Mode
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target

HERE, THERE = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080, False)


def read(metrics: Metrics) -> dict[str, float]:
    """Every sample: its name and labels, and its value."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("mode", "failures"),
    [
        ("nftables", "kubeproxy_sync_proxy_rules_nftables_sync_failures_total"),
        ("iptables", "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"),
    ],
)
def test_a_sync_is_counted_under_upstreams_names(mode: Mode, failures: str) -> None:
    metrics = Metrics(mode)
    metrics.service_changes.total, metrics.service_changes.planned = 1, 1
    metrics.endpoint_changes.total = 1
    metrics.queued("IPv4", 1000.0)
    metrics.failed("IPv4")
    metrics.synced("IPv4", 1003.0, 0.5, full=True)
    metrics.synced("IPv4", 1005.0, 0.003, full=False)
    metrics.programmed("IPv4", 1005.0, [1004.4, 1005.5])
    metrics.reconciled("IPv4", 0.003, 2)
    metrics.healthz.labels("200").inc()
    metrics.request("api", "GET", "200", 0.01)
    if mode == "iptables":
        metrics.rules("IPv4", {"nat": 7, "filter": 3}, {"nat": 2})
    found = read(metrics)
    expected = {
        "kubeproxy_sync_proxy_rules_duration_seconds_count ip_family=IPv4": 2,
        "kubeproxy_sync_proxy_rules_duration_seconds_sum ip_family=IPv4": 0.503,
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket ip_family=IPv4 le=0.004": 1,
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count ip_family=IPv4": 1,
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count ip_family=IPv4": 1,
        # A clock that is ahead of the control plane's measures nothing less than no time at all.
        "kubeproxy_network_programming_duration_seconds_bucket ip_family=IPv4 le=0.25": 1,
        "kubeproxy_network_programming_duration_seconds_bucket ip_family=IPv4 le=1.0": 2,
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds ip_family=IPv4": 1005.0,
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds ip_family=IPv4": 1000.0,
        "kubeproxy_sync_proxy_rules_service_changes_total": 1,
        "kubeproxy_sync_proxy_rules_service_changes_pending": 0,
        "kubeproxy_sync_proxy_rules_endpoint_changes_total": 1,
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 1,
        "kubeproxy_conntrack_reconciler_deleted_entries_total ip_family=IPv4": 2,
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_sum ip_family=IPv4": 0.003,
        "kubeproxy_proxy_healthz_total code=200": 1,
        f"{failures} ip_family=IPv4": 1,
        "rest_client_requests_total code=200 host=api method=GET": 1,
        "rest_client_request_duration_seconds_sum host=api verb=GET": 0.01,
    }
    if mode == "iptables":
        expected |= {
            "kubeproxy_sync_proxy_rules_iptables_total ip_family=IPv4 table=nat": 7,
            "kubeproxy_sync_proxy_rules_iptables_last ip_family=IPv4 table=nat": 2,
            "kubeproxy_sync_proxy_rules_iptables_last ip_family=IPv4 table=filter": 0,
            "kubeproxy_iptables_ct_state_invalid_dropped_packets_total": 0,
            "kubeproxy_iptables_localhost_nodeports_accepted_packets_total": 0,
        }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)
    assert found["process_resident_memory_bytes"] > 0
    assert not [name for name in found if "_created" in name]


def test_services_without_local_endpoints_are_counted_once_each() -> None:
    def target(service: str, scope: Scope, policy: str, *, local: bool, cluster: bool = True) -> Target:
        return Target(service, scope, policy, (THERE,) if cluster else (), (HERE,) if local else ())  # type: ignore[arg-type]

    plan = {
        Frontend("10.96.0.1", "tcp", 80): target("a/none-here", Scope.INTERNAL, "Local", local=False),
        Frontend("10.96.0.2", "tcp", 80): target("a/one-here", Scope.INTERNAL, "Local", local=True),
        Frontend("10.96.0.3", "tcp", 80): target(
            "a/none-anywhere", Scope.INTERNAL, "Local", local=False, cluster=False
        ),
        Frontend("10.96.0.4", "tcp", 80): target("a/cluster", Scope.INTERNAL, "Cluster", local=False),
        Frontend(None, "tcp", 30080): target("a/web", Scope.EXTERNAL, "Local", local=False),
        Frontend("198.51.100.1", "tcp", 80): target("a/web", Scope.EXTERNAL, "Local", local=False),
    }
    metrics = Metrics("nftables")
    metrics.follow("IPv4", lambda: plan)
    found = read(metrics)
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total ip_family=IPv4 traffic_policy="
    assert found[f"{name}internal"] == 1
    assert found[f"{name}external"] == 1
    plan.clear()
    assert read(metrics)[f"{name}external"] == 0
