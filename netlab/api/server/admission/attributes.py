"""What is to be admitted: an operation, the object, and who asks (apiserver pkg/admission)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any

from netlab.api.errors import ApiError
from netlab.api.meta_types import StatusCause
from netlab.api.resources import Resource
from netlab.api.server import refusals
from netlab.api.server.identity import User
from netlab.api.server.objects.schema import JSONObject


class Operation(enum.Enum):
    """What is to be done with an object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclasses.dataclass(slots=True)
class Attributes:
    """One request, as the plugins see it. A plugin that adds to `obj` changes it in place."""

    operation: Operation
    resource: Resource[Any]
    namespace: str
    name: str
    user: User
    obj: JSONObject = dataclasses.field(default_factory=dict)
    """As it is to be stored; empty for a deletion. Of a subresource that is no part of the object, what was sent."""
    old: JSONObject | None = None
    """As it is stored; None if it is new."""
    subresource: str = ""
    dry_run: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)
    """What the author should know, though it is admitted."""
    version: Resource[Any] | None = None
    """The version of the resource in which it was asked for, if it is another one."""

    @property
    def requested(self) -> Resource[Any]:
        """The resource as the request names it."""
        return self.version or self.resource

    def forbidden(self, why: str, causes: Sequence[StatusCause] = ()) -> ApiError:
        """403, as a plugin says it (admission.NewForbidden)."""
        return refusals.forbidden(self.resource, self.name, why, causes)


Mutate = Callable[[Attributes, Callable[[JSONObject], None]], JSONObject | None]
"""Has others change an object: what they make of it, or None if they leave it as it is.

The function that it is given reads and completes what one of them has changed; it raises `ApiError`.
"""
