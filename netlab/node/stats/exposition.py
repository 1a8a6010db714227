"""Texts for Prometheus (text format 0.0.4) of what a node's pods use, under upstream's names and labels."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4


class Families(Collector):
    """Families of samples, made once and written once."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def collect(self) -> Iterator[Metric]:
        """For the library."""
        yield from self._families.values()

    def add(
        self, name: str, text: str, value: float, labels: dict[str, str] | None = None, moment: float | None = None
    ) -> None:
        """A sample: of a counter if the name ends in `_total`, else of a gauge; `moment` in seconds since the epoch."""
        family = self._families.get(name)
        if family is None:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = self._families[name] = kind(name, text)
        family.add_sample(name, labels or {}, value, moment)

    def text(self, *others: Collector) -> bytes:
        """All of them, and those of others."""
        registry = CollectorRegistry()
        for each in (self, *others):
            registry.register(each)
        return generate_latest(registry)
