"""A kube-proxy's metrics, under upstream's names (KEP-3866; labels as of Kubernetes 1.33)."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from netlab import __version__
from netlab.net.addresses import Family
from netlab.proxy.config import Mode
from netlab.proxy.plan import Plan, Scope

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

_SYNC_BUCKETS = [0.001 * 2**power for power in range(15)]
_PROGRAMMING_BUCKETS = [0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)]

_REQUEST_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]
_BUILD = {
    "compiler": platform.python_implementation(),
    "git_version": f"v{__version__}",
    "major": __version__.split(".")[0],
    "minor": __version__.split(".")[1],
    "platform": f"{platform.system().lower()}/{platform.machine()}",
}

# No time series per metric for its creation time: upstream has none.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclasses.dataclass(slots=True)
class Changes:
    """How many changes to a kind of object there were, and how many of them have been planned.

    Plain numbers that the library reads: a large start has 20,000, and its own counters would take a tenth of it.
    """

    total: int = 0
    planned: int = 0


class _ChangesCollector(Collector):
    """The changes, by upstream's name for the kind of object."""

    def __init__(self, changes: dict[str, Changes]) -> None:
        self._changes = changes

    def collect(self) -> Iterator[Metric]:
        for kind, changes in self._changes.items():
            name, text = f"kubeproxy_sync_proxy_rules_{kind.lower()}_changes", f"proxy rules {kind} changes"
            yield CounterMetricFamily(name, f"Cumulative {text}", changes.total)
            yield GaugeMetricFamily(f"{name}_pending", f"Pending {text}", changes.total - changes.planned)


class Metrics:
    """One proxy's metrics, in a registry of their own.

    Those that only one mode has are there in that mode alone.
    """

    def __init__(self, mode: Mode) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        sync = "sync_proxy_rules"
        self._latency = self._histogram(f"{sync}_duration_seconds", "SyncProxyRules latency in seconds")
        self._full = self._histogram(
            "sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs"
        )
        self._partial = self._histogram(
            "sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs"
        )
        self._programming = self._histogram(
            "network_programming_duration_seconds",
            "In cluster network programming latency in seconds: from the change of a pod to the rules in force",
            buckets=_PROGRAMMING_BUCKETS,
        )
        self._last = self._gauge(f"{sync}_last_timestamp_seconds", "The last time proxy rules were successfully synced")
        self._queued = self._gauge(
            f"{sync}_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued"
        )
        program = "nftables_sync" if mode == "nftables" else "iptables_restore"
        self._failures = self._counter(f"{sync}_{program}_failures_total", "Cumulative batches that the kernel refused")
        self._forgotten = self._counter(
            "conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by the reconciler"
        )
        self._reconciling = self._histogram(
            "conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds"
        )
        self.service_changes, self.endpoint_changes = Changes(), Changes()
        self.registry.register(_ChangesCollector({"Service": self.service_changes, "Endpoint": self.endpoint_changes}))
        self.healthz = self._counter("proxy_healthz_total", "Cumulative proxy healthz HTTP status", labels=("code",))
        self.livez = self._counter("proxy_livez_total", "Cumulative proxy livez HTTP status", labels=("code",))
        self._requests = Counter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "host", "method"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            ("host", "verb"),
            registry=self.registry,
            buckets=_REQUEST_BUCKETS,
        )
        Gauge("kubernetes_build_info", "What runs here", tuple(_BUILD), registry=self.registry).labels(**_BUILD).set(1)
        if mode == "iptables":
            self._iptables(sync)
        self._no_local = self._gauge(
            f"{sync}_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            labels=("ip_family", "traffic_policy"),
        )

    def _iptables(self, sync: str) -> None:
        labels = ("ip_family", "table")
        self._rules = self._gauge(f"{sync}_iptables_total", "Number of iptables rules owned by kube-proxy", labels)
        self._rules_last = self._gauge(
            f"{sync}_iptables_last", "Number of iptables rules written by kube-proxy in last sync", labels
        )
        # For dashboards made for upstream: no rule of ours drops invalid packets, or accepts a NodePort on loopback.
        for name in ("ct_state_invalid_dropped", "localhost_nodeports_accepted"):
            Counter(
                f"kubeproxy_iptables_{name}_packets_total",
                f"Packets {name.rpartition('_')[2]} by rules that netlab does not have",
                registry=self.registry,
            )

    def follow(self, family: Family, plan: Callable[[], Plan]) -> None:
        """Report a family from now on; its ports without local endpoints are counted at each scrape."""
        # Counters start at 0, so that the first event is an increase.
        self._failures.labels(family)
        self._forgotten.labels(family)
        self._reconciling.labels(family)
        for scope in Scope:
            count = functools.partial(_without_local_endpoints, plan, scope)
            self._no_local.labels(family, scope.value).set_function(count)

    def revision(self, acted: Callable[[], int]) -> None:
        """Tell the resourceVersion for which the rules in force stand. Upstream has nothing like it."""
        name, text = "netlab_in_force_resource_version", "The API's resourceVersion for which the rules in force stand"
        Gauge(name, text, registry=self.registry).set_function(acted)

    def request(self, host: str, method: str, code: str, seconds: float) -> None:
        """The API server answered a request, or did not; see `Client.observe`."""
        self._requests.labels(code, host, method).inc()
        self._request_seconds.labels(host, method).observe(seconds)

    def rules(self, family: Family, total: Mapping[str, int], written: Mapping[str, int]) -> None:
        """How many rules iptables has of ours after a sync, by table, and how many of them the sync wrote."""
        for table, number in total.items():
            self._rules.labels(family, table).set(number)
            self._rules_last.labels(family, table).set(written.get(table, 0))

    def queued(self, family: Family, now: float) -> None:
        """A sync was requested; `now` is in seconds since the epoch, as everywhere here."""
        self._queued.labels(family).set(now)

    def synced(self, family: Family, now: float, seconds: float, *, full: bool) -> None:
        """A sync succeeded that took so long."""
        self._latency.labels(family).observe(seconds)
        (self._full if full else self._partial).labels(family).observe(seconds)
        self._last.labels(family).set(now)

    def programmed(self, family: Family, now: float, triggers: Iterable[float]) -> None:
        """Changes made at these times are now in force."""
        for trigger in triggers:
            self._programming.labels(family).observe(max(0.0, now - trigger))

    def failed(self, family: Family) -> None:
        """The kernel refused a batch."""
        self._failures.labels(family).inc()

    def reconciled(self, family: Family, seconds: float, flows: int) -> None:
        """Stale flows were looked for in the connection tracking, for so long, and so many deleted."""
        self._reconciling.labels(family).observe(seconds)
        self._forgotten.labels(family).inc(flows)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format, of CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ("ip_family",)) -> Counter:
        return Counter(f"kubeproxy_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ("ip_family",)) -> Gauge:
        return Gauge(f"kubeproxy_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float] = _SYNC_BUCKETS) -> Histogram:
        return Histogram(f"kubeproxy_{name}", text, ("ip_family",), registry=self.registry, buckets=tuple(buckets))


def _without_local_endpoints(plan: Callable[[], Plan], scope: Scope) -> int:
    """How many Service ports drop traffic because their only endpoints are on other nodes."""
    return len(
        {
            target.service
            for target in plan().values()
            if target.scope is scope and target.policy == "Local" and not target.local and target.cluster
        }
    )
