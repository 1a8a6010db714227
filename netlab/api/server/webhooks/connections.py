"""A connection to a pod, a Service or a node, as webhooks see it: the options of its path (rest.Connecter)."""

from __future__ import annotations

from starlette.datastructures import QueryParams

from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.identity import User
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.rest.requests import Target
from netlab.api.serving.kubelets import is_true

_STREAMS = {"stdin": False, "stdout": True, "stderr": True, "tty": False}
"""Of exec and attach, and what holds if nothing is said."""


def attributes(target: Target, params: QueryParams, user: User) -> Attributes:
    """What is to be admitted."""
    found = target.resource.subresource(target.subresource)
    obj: JSONObject = {}
    if found is not None and found.kind is not None:
        version = f"{found.kind.group}/{found.kind.version}".lstrip("/")
        obj = {"kind": found.kind.kind, "apiVersion": version, **_options(target, params)}
    place = target.resource, target.namespace, target.name
    return Attributes(Operation.CONNECT, *place, user, obj, subresource=target.subresource)


def _options(target: Target, params: QueryParams) -> JSONObject:
    if target.subresource == "proxy":
        return {"path": target.path} if target.path else {}
    if target.subresource == "portforward":
        return {"ports": [int(each) for each in params.getlist("ports") if each.isascii() and each.isdecimal()]}
    options: JSONObject = {
        name: is_true(params[name]) if name in params else default for name, default in _STREAMS.items()
    }
    if "container" in params:
        options["container"] = params["container"]
    if target.subresource == "exec":
        options["command"] = params.getlist("command")
    return options
