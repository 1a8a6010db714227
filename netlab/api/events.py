"""Recording v1 Events: what happened to an object, for people."""

from __future__ import annotations

import hashlib
import logging
from http import HTTPStatus

from netlab.api.client import Client
from netlab.api.core_types import Event, EventSource, ObjectReference
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, ObjectMeta, now
from netlab.api.resources import EVENTS
from netlab.errors import NetlabError

NORMAL = "Normal"
WARNING = "Warning"

MESSAGE_LIMIT = 1024
"""How many characters of a message to keep, as upstream does (client-go tools/record)."""
_ATTEMPTS = 3

log = logging.getLogger(__name__)


async def record(
    client: Client, involved: Object, type: str, reason: str, message: str, component: str, host: str = ""
) -> None:
    """Record that `reason` happened to `involved`; `type` is NORMAL or WARNING. A repeat increments its count.

    The event is in the namespace of `involved`, or in `default` for a cluster-scoped object. Events are best
    effort: a failure to record one is logged and never raised, so that reporting cannot stop the work reported.
    """
    event = new_event(involved, type, reason, message, component=component, host=host)
    try:
        await send(client, event)
    except NetlabError as error:
        log.debug("event %s of %s: %s", reason, involved.key, error)
    except Exception:
        log.exception("event %s of %s was not recorded", reason, involved.key)


def explained(error: Exception) -> str:
    """What an event says of an error: a fault of the program's own is named by its type."""
    return str(error) if isinstance(error, NetlabError) else f"{type(error).__name__}: {error}"


def new_event(
    involved: Object, type: str, reason: str, message: str, *, component: str, host: str = "", field_path: str = ""
) -> Event:
    """The first event of its kind. Its name is derived from its contents, so that repeats share one name.

    client-go remembers which events it sent; a name derived from the contents survives restarts. `field_path` is the
    part of the object that it happened to.
    """
    meta = involved.metadata
    # JSON cannot hold half of a surrogate pair, as a file's name that is not UTF-8 has it.
    message = message[:MESSAGE_LIMIT].encode(errors="backslashreplace").decode()
    # A resourceVersion is left out of the identity: the same failure of a changed object is still a repeat.
    identity = "\0".join((involved.kind, meta.uid, meta.name, type, reason, message, component, host, field_path))
    digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    moment = now()
    return Event(
        # An object's name has at most 253 characters, and so has the event's.
        metadata=ObjectMeta(name=f"{meta.name[:236]}.{digest}", namespace=meta.namespace or "default"),
        involvedObject=ObjectReference(
            apiVersion=involved.apiVersion,
            kind=involved.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resourceVersion=meta.resourceVersion,
            fieldPath=field_path,
        ),
        type=type,
        reason=reason,
        message=message,
        source=EventSource(component=component, host=host),
        reportingComponent=component,
        reportingInstance=host,
        firstTimestamp=moment,
        lastTimestamp=moment,
        count=1,
    )


async def send(client: Client, event: Event) -> None:
    """Create an event, or count it if there is one like it. Raises what the client raises."""
    name, namespace = event.metadata.name, event.metadata.namespace
    for _ in range(_ATTEMPTS):
        try:
            await client.create(EVENTS, event)
            return
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        try:
            # Recorders may write Events and not read them. A patch that changes nothing says what is there.
            seen = await client.patch(EVENTS, name, namespace, {})
            change = {
                # Two recorders counted at the same time: the second one's patch is refused and retried.
                "metadata": {"resourceVersion": seen.metadata.resourceVersion},
                "count": seen.count + 1,
                "lastTimestamp": event.lastTimestamp,
            }
            await client.patch(EVENTS, name, namespace, change)
            return
        except ApiError as error:
            if error.code not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise
