"""Every way the API says no: metav1.Status with Kubernetes' own reasons, codes and sentences.

The sentences are those of apimachinery pkg/api/errors, because kubectl and people know them by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, Status, StatusCause, StatusDetails
from netlab.api.resources import Resource

_LONGEST = 16 * 1024
"""Characters of a message: what it quotes may be as large as a request."""

_LONGEST_NAME = 1024

_MOST_CAUSES = 100


def encoded(status: Status) -> bytes:
    """A Status as it is sent: netlab's own client needs no defaults, which its encoding leaves out; others do.

    kubectl looks into the details of whatever was not found.
    """
    said = {
        "kind": status.kind,
        "apiVersion": status.apiVersion,
        "metadata": {},
        "status": status.status,
        "details": {},
    }
    return msgspec.json.encode(said | msgspec.to_builtins(status))


def _refusal(code: int, reason: str, message: str, details: StatusDetails | None = None) -> ApiError:
    return ApiError(Status(code=code, reason=reason, message=_cut(message, _LONGEST), details=details))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _listed(causes: Sequence[StatusCause]) -> list[StatusCause]:
    """As many causes as a person reads, each as long."""
    return [
        StatusCause(
            reason=each.reason, message=_cut(each.message, _LONGEST_NAME), field=_cut(each.field, _LONGEST_NAME)
        )
        for each in causes[:_MOST_CAUSES]
    ]


def _qualified(resource: Resource[Object], word: str) -> str:
    return f"{word}.{resource.group}" if resource.group else word


def _about(resource: Resource[Object], name: str, uid: str = "") -> StatusDetails:
    # Status details carry the plural, except those of Invalid (see below): so does the real server.
    return StatusDetails(name=_cut(name, _LONGEST_NAME), group=resource.group, kind=resource.plural, uid=uid)


def not_found(resource: Resource[Object], name: str) -> ApiError:
    """404: there is no such object."""
    message = f'{_qualified(resource, resource.plural)} "{name}" not found'
    return _refusal(404, "NotFound", message, _about(resource, name))


def no_such_path(path: str) -> ApiError:
    """404: the server has no such resource."""
    return _refusal(404, "NotFound", f"the server could not find the requested resource: {path}")


def already_exists(resource: Resource[Object], name: str) -> ApiError:
    """409: an object of that name is there."""
    message = f'{_qualified(resource, resource.plural)} "{name}" already exists'
    return _refusal(409, "AlreadyExists", message, _about(resource, name))


def no_unique_name(resource: Resource[Object], name: str) -> ApiError:
    """409: every name that was made up for an object was taken."""
    details = _about(resource, name)
    details.retryAfterSeconds = 1
    taken = f'{_qualified(resource, resource.plural)} "{name}" already exists'
    message = f"{taken}, the server was not able to generate a unique name for the object"
    return _refusal(409, "AlreadyExists", message, details)


def conflict(resource: Resource[Object], name: str, why: str) -> ApiError:
    """409: the object changed in the meantime, or it is another one of the same name."""
    message = f'Operation cannot be fulfilled on {_qualified(resource, resource.plural)} "{name}": {why}'
    return _refusal(409, "Conflict", message, _about(resource, name))


def modified(resource: Resource[Object], name: str) -> ApiError:
    """409: the resourceVersion sent is not the present one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def apply_conflicts(message: str, causes: Sequence[StatusCause]) -> ApiError:
    """409: fields that are applied with another value are others'."""
    return _refusal(409, "Conflict", message, StatusDetails(causes=_listed(causes)))


def forbidden(resource: Resource[Object], name: str, why: str, causes: Sequence[StatusCause] = ()) -> ApiError:
    """403: never allowed, whatever the object says."""
    details = _about(resource, name)
    details.causes = _listed(causes)
    return _refusal(403, "Forbidden", f'{_qualified(resource, resource.plural)} "{name}" is forbidden: {why}', details)


def invalid(resource: Resource[Object], name: str, causes: Sequence[StatusCause]) -> ApiError:
    """422: the object can be read, but these fields' values cannot be accepted."""
    causes = _listed(causes)
    details = StatusDetails(name=_cut(name, _LONGEST_NAME), group=resource.group, kind=resource.kind, causes=causes)
    message = f'{_qualified(resource, resource.kind)} "{name}" is invalid: {_lines(causes)}'
    return _refusal(422, "Invalid", message, details)


def _lines(causes: Sequence[StatusCause]) -> str:
    lines = [f"{cause.field}: {cause.message}" for cause in causes]
    return lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"


def unreadable(resource: Resource[Object], causes: Sequence[StatusCause], hint: str = "") -> ApiError:
    """400: fields that the kind does not have or that stand twice, or values of the wrong JSON type."""
    causes = _listed(causes)
    lines = ", ".join(cause.message for cause in causes)
    message = (
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        f"strict decoding error: {lines}{hint}"
    )
    return _refusal(400, "BadRequest", message, StatusDetails(causes=causes))


def invalid_options(kind: str, causes: Sequence[StatusCause], group: str = "meta.k8s.io", name: str = "") -> ApiError:
    """422: the parameters of a request, or what is sent to a subresource, make no sense."""
    causes = _listed(causes)
    details = StatusDetails(name=_cut(name, _LONGEST_NAME), group=group, kind=kind, causes=causes)
    return _refusal(422, "Invalid", f'{kind}.{group} "{name}" is invalid: {_lines(causes)}', details)


def service_unavailable(message: str) -> ApiError:
    """503: what a request is about cannot be reached."""
    return _refusal(503, "ServiceUnavailable", message)


_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 500: "InternalError", 503: "ServiceUnavailable"}


def passed_on(code: int, text: str) -> ApiError:
    """What another server refused, in its words."""
    return _refusal(code, _REASONS.get(code, "Unknown"), text)


def bad_gateway(message: str) -> ApiError:
    """502: the server that a request was passed on to gave no answer that makes sense."""
    return _refusal(502, "InternalError", message)


def bad_request(message: str) -> ApiError:
    """400: the request itself makes no sense."""
    return _refusal(400, "BadRequest", message)


def inapplicable(error: Exception) -> ApiError:
    """422: an operation of a JSON patch fails (apiserver pkg/endpoints/handlers/patch.go)."""
    message = f"the server rejected our request due to an error in our request: {error}"
    return _refusal(422, "Invalid", message, StatusDetails())


def unauthorized() -> ApiError:
    """401: there are no credentials, or they are nobody's. It says no more, as upstream."""
    return _refusal(401, "Unauthorized", "Unauthorized")


def path_forbidden(user: str, verb: str, path: str, why: str = "") -> ApiError:
    """403: this user may not do that with a path that names no resource."""
    return _refusal(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"{why}', StatusDetails())


def not_authorized(group: str, plural: str, name: str, why: str) -> ApiError:
    """403: this user may not do that with a resource, which need not exist."""
    qualified = f"{plural}.{group}" if group else plural
    about = f'{qualified} "{name}"' if name else qualified
    details = StatusDetails(name=_cut(name, _LONGEST_NAME), group=group, kind=plural)
    return _refusal(403, "Forbidden", f"{about} is forbidden: {why}", details)


def method_not_allowed(method: str, resource: Resource[Object]) -> ApiError:
    """405."""
    details = StatusDetails(group=resource.group, kind=resource.plural)
    return _refusal(405, "MethodNotAllowed", f"the server does not allow {method} on the requested resource", details)


def terminating(resource: Resource[Object], verb: str) -> ApiError:
    """405: nothing new comes of a definition that is being deleted."""
    details = StatusDetails(group=resource.group, kind=resource.plural)
    message = f"{verb} not allowed while custom resource definition is terminating"
    return _refusal(405, "MethodNotAllowed", message, details)


def unsupported_media_type(sent: str, supported: Sequence[str]) -> ApiError:
    """415."""
    message = f'the body of the request was in an unknown format ("{sent}") - accepted media types include: '
    return _refusal(415, "UnsupportedMediaType", message + ", ".join(supported))


def not_acceptable(supported: Sequence[str]) -> ApiError:
    """406: the answer cannot be given in any of the media types that the client accepts."""
    return _refusal(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(supported)}")


def not_of_that_form(asked: str, *, is_list: bool) -> ApiError:
    """406: the form is one of lists, and the answer is none; or the other way round."""
    message = f"you requested {asked}, but the requested object is {'a list' if is_list else 'not a list'}"
    return _refusal(406, "NotAcceptable", message)


def too_large(limit: int) -> ApiError:
    """413: no request is that big."""
    return _refusal(413, "RequestEntityTooLarge", f"the request is too large: the limit is {limit} bytes")


def object_too_large(size: int, limit: int) -> ApiError:
    """413: the object would be larger than what is stored of one."""
    return _refusal(413, "RequestEntityTooLarge", f"the object is too large: it has {size} bytes, the limit is {limit}")


def patch_too_large(error: Exception) -> ApiError:
    """413: a patch would make an object grow too much, or take too long."""
    return _refusal(413, "RequestEntityTooLarge", f"the patch asks for too much: {error}")


class Expired(ApiError):  # noqa: N818
    """410, as raised by `expired`."""


def expired(asked: int, oldest: int) -> Expired:
    """410: the changes since then are no longer, or not at all, known; list again."""
    message = f"too old resource version: {asked} ({oldest})"
    return Expired(Status(code=410, reason="Expired", message=message))


def expired_page(restart: str) -> ApiError:
    """410: the list that is to go on is no longer known; `restart` is a token to go on with the present one."""
    refusal = _refusal(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
    refusal.status.metadata.continue_ = restart
    return refusal


def too_new(asked: int, current: int) -> ApiError:
    """504: a revision that the server has not reached."""
    message = "Too large resource version"
    causes = [StatusCause(reason="ResourceVersionTooLarge", message=message)]
    details = StatusDetails(causes=causes, retryAfterSeconds=1)
    return _refusal(504, "Timeout", f"Timeout: {message}: {asked}, current: {current}", details)


def too_many(message: str, causes: Sequence[StatusCause], seconds: int) -> ApiError:
    """429: not now; the client may ask again after so many seconds (0: nobody knows)."""
    details = StatusDetails(causes=_listed(causes), retryAfterSeconds=seconds)
    return _refusal(429, "TooManyRequests", message, details)


def several_budgets(names: Sequence[str]) -> ApiError:
    """500: a pod that more than one disruption budget is about (upstream's own code and words)."""
    message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support"
    return _refusal(500, "InternalError", f"{message}: {', '.join(names)}")


def no_space(error: Exception) -> ApiError:
    """507: the disk of the database is full; nothing was changed, and the same request succeeds once there is space."""
    message = f"the disk of the cluster's database is full ({error}): free space and try again; nothing was changed"
    return _refusal(507, "InsufficientStorage", message)


def exhausted(error: Exception) -> ApiError:
    """507: no address or port is left to give."""
    return _refusal(507, "InsufficientStorage", str(error))


def storage_failed(error: Exception) -> ApiError:
    """500: the database cannot be written for another reason; nothing was changed."""
    return _refusal(500, "InternalError", f"the cluster's database cannot be written: {error}; nothing was changed")


def storage_away(error: Exception) -> ApiError:
    """503: the database cannot be reached; nothing was changed."""
    return _later(f"the cluster's database is away ({error}); nothing was changed: try again")


def storage_silent(error: Exception) -> ApiError:
    """503: the database has not answered. If it has made the change, that is taken back when it answers again."""
    return _later(f"the cluster's database does not answer ({error}): read the object again before you try again")


def _later(message: str) -> ApiError:
    return _refusal(503, "ServiceUnavailable", message, StatusDetails(retryAfterSeconds=1))


def internal(error: Exception) -> ApiError:
    """500: a fault of the server."""
    return broken(f"{type(error).__name__}: {error}")


def broken(why: str) -> ApiError:
    """500: what is stored cannot be shown as asked for (upstream's own code and words)."""
    return _refusal(500, "InternalError", f"Internal error occurred: {why}")
