"""The server's metrics, under upstream's names (apiserver pkg/endpoints/metrics), in Prometheus' text form."""

from __future__ import annotations

import bisect
import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from netlab.api.meta_types import Object
from netlab.api.resources import ALL, Resource
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.rest.requests import Target

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

_COMPONENT = "apiserver"
_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)

_VERBS = {"create": "POST", "update": "PUT"}
"""Upstream's metrics call the other verbs as discovery does, in capitals."""


class _Kind(NamedTuple):
    """What is counted together."""

    verb: str
    group: str
    version: str
    plural: str
    subresource: str
    scope: str

    @property
    def labels(self) -> list[str]:
        shown = _VERBS.get(self.verb) or self.verb.upper()
        return [shown, *self[1:], _COMPONENT]


_LABELS = ["verb", "group", "version", "resource", "subresource", "scope", "component"]


@dataclasses.dataclass(slots=True)
class _Answers:
    """How many requests were answered with one code, and how long they took."""

    buckets: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    seconds: float = 0.0


class Metrics(Collector):
    """The requests that were answered, in plain numbers: the library's own counters cost a twentieth of a write."""

    def __init__(
        self,
        catalog: Catalog,
        objects: Callable[[Resource[Object]], int],
        open_watches: Callable[[], Mapping[str, int]],
    ) -> None:
        """`objects` tells how many a resource has, `open_watches` how many read each (Resource.collection)."""
        self._catalog = catalog
        self._objects = objects
        self._open_watches = open_watches
        self._answers: dict[tuple[_Kind, int], _Answers] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, verb: str, target: Target, code: int, seconds: float) -> None:
        """Take note of a request that was answered."""
        resource = target.resource
        key = _Kind(verb, resource.group, resource.version, resource.plural, target.subresource, target.scope), code
        answers = self._answers.get(key)
        if answers is None:
            answers = self._answers[key] = _Answers()
        answers.seconds += seconds
        answers.buckets[bisect.bisect_left(_BUCKETS, seconds)] += 1

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the library."""
        requests = CounterMetricFamily("apiserver_request", "Counter of apiserver requests.", labels=[*_LABELS, "code"])
        took: dict[_Kind, _Answers] = {}
        for (kind, code), answers in self._answers.items():
            requests.add_metric([*kind.labels, str(code)], sum(answers.buckets))
            total = took.setdefault(kind, _Answers())
            total.seconds += answers.seconds
            total.buckets = list(map(operator.add, total.buckets, answers.buckets))
        yield requests
        durations = HistogramMetricFamily(
            "apiserver_request_duration_seconds", "Response latency in seconds.", labels=_LABELS
        )
        for kind, total in took.items():
            if kind.verb != "watch":  # upstream has no durations of what is to last
                durations.add_metric(kind.labels, list(_cumulative(total.buckets)), total.seconds)
        yield durations
        watches = GaugeMetricFamily(
            "apiserver_longrunning_requests",
            "Requests that last: the watches that are open.",
            labels=["verb", "group", "version", "resource"],
        )
        objects = GaugeMetricFamily(
            "apiserver_resource_objects", "The objects that are stored.", labels=["group", "resource"]
        )
        open_watches = self._open_watches()
        for resource in _stored(self._catalog):
            about = [resource.group, resource.version, resource.plural]
            watches.add_metric(["WATCH", *about], open_watches.get(resource.collection, 0))
            objects.add_metric([resource.group, resource.plural], self._objects(resource))
        yield watches
        yield objects


def _stored(catalog: Catalog) -> Iterator[Resource[Object]]:
    """Every resource that has objects, in one of its versions."""
    yield from (each for each in ALL if each.stored_as is None)
    yield from {each.collection: each for each in catalog.custom()}.values()


def _cumulative(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for limit, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
        total += count
        yield limit, total
