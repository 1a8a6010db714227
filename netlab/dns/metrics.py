"""A server's metrics, under CoreDNS's names. They are plain numbers until they are scraped."""

from __future__ import annotations

from collections import Counter

from netlab import __version__

Transport = tuple[str, str]
"""`udp` or `tcp`, and the address family: 1 is IPv4, 2 is IPv6."""

Label = tuple[str, str, str]
"""Of an answer: the server block's zone, the type of record, and the response code."""


class Metrics:
    """What is counted of one server."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[Transport, Label]] = Counter()
        self.hits = 0
        """Answers that were kept."""
        self.misses = 0
        self.failures = 0
        """Questions that made the server fail: faults of ours."""
        self.failed_reloads = 0
        self.forwarded: Counter[tuple[str, str]] = Counter()
        """Questions that others were asked, by the zone and how it ended: the response code, or why there is none."""

    def text(self, entries: int) -> str:
        """The exposition format; `entries` are the answers kept now."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        from prometheus_client.registry import Collector

        requests = CounterMetricFamily(
            "coredns_dns_requests",
            "Counter of DNS requests made per zone, protocol and family.",
            labels=("server", "zone", "view", "proto", "family", "type"),
        )
        responses = CounterMetricFamily(
            "coredns_dns_responses",
            "Counter of response status codes.",
            labels=("server", "zone", "view", "rcode", "plugin"),
        )
        by_type: Counter[tuple[str, ...]] = Counter()
        by_rcode: Counter[tuple[str, ...]] = Counter()
        server = "dns://:53"
        for ((proto, family), (zone, kind, rcode)), count in self.answers.items():
            by_type[server, zone, "", proto, family, kind] += count
            by_rcode[server, zone, "", rcode, ""] += count
        for family_, counts in ((requests, by_type), (responses, by_rcode)):
            for labels, count in counts.items():
                family_.add_metric(labels, count)
        forwarded = CounterMetricFamily(
            "coredns_forward_requests", "Counter of requests made to upstreams.", labels=("zone", "rcode")
        )
        for key, count in self.forwarded.items():
            forwarded.add_metric(key, count)
        build = GaugeMetricFamily("coredns_build_info", "What runs here.", labels=("version",))
        build.add_metric((f"netlab-{__version__}",), 1)
        families = (
            requests,
            responses,
            forwarded,
            CounterMetricFamily("coredns_cache_hits", "The count of cache hits.", self.hits),
            CounterMetricFamily("coredns_cache_misses", "The count of cache misses.", self.misses),
            GaugeMetricFamily("coredns_cache_entries", "The number of elements in the cache.", entries),
            CounterMetricFamily("coredns_panics", "The number of panics.", self.failures),
            CounterMetricFamily("coredns_reload_failed", "Counter of failed reload attempts.", self.failed_reloads),
            build,
        )

        class _Families(Collector):
            def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
                return list(families)

        registry = CollectorRegistry()
        registry.register(_Families())
        ProcessCollector(registry=registry)
        return generate_latest(registry).decode()
