"""Answers requests about NodeMetrics and PodMetrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from netlab.api.core_types import Pod
from netlab.api.kinds.forms import format_duration
from netlab.api.meta_types import Object, ObjectMeta, Quantity, format_time
from netlab.api.metrics_types import ContainerMetrics, NodeMetrics, PodMetrics
from netlab.api.resources import NODEMETRICS, NODES, PODMETRICS, PODS, Resource
from netlab.api.server import refusals
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest import lists, responses
from netlab.api.server.rest.requests import Call
from netlab.api.server.rest.views import ListMeta
from netlab.api.server.storage.watch import Selection, Stored
from netlab.api.server.usage import scrapes
from netlab.api.server.usage.sampler import Ask, Sampler
from netlab.api.server.usage.scrapes import Container

_NODES: Resource[Any] = NODES
_PODS: Resource[Any] = PODS

Handler = Callable[[Call], Awaitable[Response]]


class Measured:
    """The handlers of what is measured on request."""

    def __init__(self, registry: Registry, ask: Ask) -> None:
        self._registry = registry
        self._sampler = Sampler(ask)

    def handler(self, call: Call) -> Handler | None:
        """What answers a request; None if it is about something else."""
        return self._answer if call.target.resource in (NODEMETRICS, PODMETRICS) else None

    async def _answer(self, call: Call) -> Response:
        is_nodes = call.target.resource is NODEMETRICS
        measure = self._nodes if is_nodes else self._pods
        resource = _NODES if is_nodes else _PODS
        if call.verb == "get":
            wanted = self._registry.get(resource, call.target.namespace, call.target.name)
            found = await measure([wanted])
            if not found:
                raise refusals.not_found(call.target.resource, call.target.name)
            return responses.document(call.view.object(_encoded(call, found[0])), format=call.answer.format)
        options = lists.read_options(resource, call.target.namespace, call.params, watch=False)
        found = await measure(self._selected(resource, options.selection))
        body = call.view.list([_encoded(call, each) for each in found], ListMeta(""))
        return responses.document(body, format=call.answer.format)

    def _selected(self, resource: Resource[Any], selection: Selection) -> list[Stored]:
        return [each for each in self._registry.store.all(resource) if selection.matches(each)]

    async def _nodes(self, wanted: list[Stored]) -> list[Object]:
        sampled = await self._sampler.sample(each.name for each in wanted)
        found: list[Object] = []
        for each in wanted:
            pair = sampled.get(each.name)
            used = scrapes.measured(pair[0].node, pair[1].node) if pair is not None else None
            if used is not None:
                found.append(
                    NodeMetrics(
                        metadata=_meta(each, used.moment),
                        timestamp=format_time(used.moment),
                        window=_window(used),
                        usage=_usage(used),
                    )
                )
        return found

    async def _pods(self, wanted: list[Stored]) -> list[Object]:
        """Those that run, and of whose containers that run something is known."""
        pods = [(each, msgspec.json.decode(each.raw, type=Pod)) for each in wanted]
        running = [(each, pod) for each, pod in pods if pod.status.phase == "Running" and pod.spec.nodeName]
        sampled = await self._sampler.sample(pod.spec.nodeName for _, pod in running)
        by_node = {name: scrapes.of_containers(*pair) for name, pair in sampled.items()}
        made = (_pod_metrics(each, pod, by_node.get(pod.spec.nodeName, {})) for each, pod in running)
        return [each for each in made if each is not None]


def _pod_metrics(stored: Stored, pod: Pod, by_container: Mapping[Container, scrapes.Measured]) -> PodMetrics | None:
    names = [each.name for each in (*pod.spec.initContainers, *pod.spec.containers)]
    keyed = ((name, by_container.get((stored.namespace, stored.name, name))) for name in names)
    used = {name: one for name, one in keyed if one is not None}
    if not used:
        return None
    moment = min(each.moment for each in used.values())
    return PodMetrics(
        metadata=_meta(stored, moment),
        timestamp=format_time(moment),
        window=_window(*used.values()),
        containers=[ContainerMetrics(name=name, usage=_usage(each)) for name, each in used.items()],
    )


def _meta(stored: Stored, moment: float) -> ObjectMeta:
    return ObjectMeta(
        name=stored.name,
        namespace=stored.namespace,
        creationTimestamp=format_time(moment),
        labels=dict(stored.labels),
    )


def _usage(used: scrapes.Measured) -> dict[str, Quantity]:
    return {"cpu": f"{round(used.cpu * 1e9)}n", "memory": f"{used.memory // 1024}Ki"}


def _window(*used: scrapes.Measured) -> str:
    return format_duration(round(max(each.window for each in used) * 1000) * 10**6)


def _encoded(call: Call, obj: Object) -> bytes:
    resource = call.target.resource
    named = {"kind": resource.kind, "apiVersion": resource.api_version}
    return msgspec.json.encode(named | msgspec.to_builtins(obj))
