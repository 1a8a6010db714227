"""The cluster's objects in etcd 3: keys as upstream's, values in JSON; an object's resourceVersion is its mod_revision.

One server at a time writes beneath a prefix. It says so in a key of its own, the claim: every write is a transaction
that only holds while the claim is the one that this server made, so a later server fences off an earlier one, and its
requests that are still on the way. A write that gets no answer is settled the same way: a new claim, and in the same
transaction the object as it was. Others may read what is there, and must not write it.
"""

from __future__ import annotations

import base64
import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from netlab.api.resources import ALL
from netlab.api.server import refusals
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage import snapshots
from netlab.api.server.storage.backend import Loaded, at_revision, check_size, stored_of
from netlab.api.server.storage.etcd_gateway import AwayError, Gateway, RefusedError, UncertainError, encoded
from netlab.api.server.storage.watch import HISTORY, Event, Stored
from netlab.errors import NetlabError, UnavailableError

START_SECONDS = 30.0
"""How long a server that starts waits for etcd."""

_POLL = 0.05
_PAGE = 500
_MOST_OPERATIONS = 100
"""In one transaction; etcd's --max-txn-ops is 128."""

_PLACES = {resource.collection: "/".join(filter(None, (resource.group, resource.plural))) for resource in ALL}
_PLURALS = {place: plural for plural, place in _PLACES.items()}


class _Pending(NamedTuple):
    """A write without an answer: the object as it is known, or None, and its key."""

    plural: str
    key: str
    before: Stored | None


class Etcd:
    """The objects beneath a prefix of an etcd (`Backend`), such as `` or `/LAB`.

    A snapshot at `restoring` takes the place of everything at the next start, and is removed then.
    """

    def __init__(self, gateway: Gateway, prefix: str = "", restoring: Path | None = None) -> None:
        self._gateway = gateway
        self._prefix = f"{prefix}/registry/"
        self._claim_key = f"{prefix}/netlab/claim"
        self._restoring = restoring
        self._identity = uuid.uuid4().hex.encode()
        self._claim = 0
        self._pending: _Pending | None = None

    def load(self) -> Loaded:
        """Claim the prefix and read all that is there, with the last changes. Waits for an etcd that is away.

        Raises `UnavailableError` when there is none, `NetlabError` when what it has is not a cluster's objects.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._load()
            except (AwayError, UncertainError) as error:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"etcd does not answer ({error}): is it running?") from None
                time.sleep(_POLL)
            except RefusedError as error:
                raise NetlabError(f"etcd {self._gateway.url} cannot be used: {error}") from None
            except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
                raise NetlabError(
                    f"etcd {self._gateway.url} has no cluster's objects beneath {self._prefix} ({error}): use another "
                    "prefix, or restore a snapshot"
                ) from None

    def _load(self) -> Loaded:
        if self._restoring is not None and self._restoring.exists():
            self._restore(snapshots.read(self._restoring))
            self._restoring.unlink()
        answer = self._transact([], [_put(self._claim_key, self._identity)])
        self._claim = _revision(answer)
        objects = list(self._read_objects())
        floor, history = self._read_history()
        return Loaded(self._claim, objects, floor, history)

    def _read_objects(self) -> Iterator[tuple[str, Stored]]:
        """All objects as of the claim, in pages."""
        start, end = self._prefix.encode(), _end(self._prefix)
        more = True
        while more:
            request = {"key": encoded(start), "range_end": encoded(end), "limit": _PAGE, "revision": self._claim}
            answer = self._gateway.call("kv/range", request)
            for pair in answer.get("kvs", []):
                yield self._found(pair)
                start = base64.b64decode(pair["key"]) + b"\0"
            more = answer.get("more", False)

    def _read_history(self) -> tuple[int, list[tuple[str, Event]]]:
        """The revision after which every change is known, and these changes: up to the claim."""
        floor = max(self._claim - HISTORY, 0)
        while True:
            compacted, history = self._changes_since(floor)
            if compacted is None:
                return floor, history
            floor = compacted

    def _changes_since(self, floor: int) -> tuple[int | None, list[tuple[str, Event]]]:
        """The changes after a revision, or the revision up to which etcd has forgotten them."""
        history: list[tuple[str, Event]] = []
        # One watch of the claim too, which is the last change: until it comes, there are more.
        start, end = min(self._prefix, self._claim_key), max(_end(self._prefix), _end(self._claim_key))
        request = {
            "key": encoded(start.encode()),
            "range_end": encoded(end),
            "start_revision": floor + 1,
            "prev_kv": True,
        }
        for answer in self._gateway.watch(request):
            if "compact_revision" in answer:
                return int(answer["compact_revision"]), []
            for event in answer.get("events", []):
                pair = event["kv"]
                key = base64.b64decode(pair["key"]).decode()
                if key == self._claim_key and int(pair["mod_revision"]) == self._claim:
                    return None, history
                if key.startswith(self._prefix):
                    history.append(self._event(event))
        raise UncertainError("the watch has ended")

    def _event(self, event: dict[str, Any]) -> tuple[str, Event]:
        pair, earlier = event["kv"], event.get("prev_kv")
        before = None
        if earlier is not None:
            plural, before = self._found(earlier)
        if event.get("type") == "DELETE" and before is not None:
            revision = int(pair["mod_revision"])
            return plural, Event(revision, before, None, at_revision(plural, before, revision))
        plural, after = self._found(pair)
        return plural, Event(after.revision, before, after)

    def _found(self, pair: dict[str, Any]) -> tuple[str, Stored]:
        key = base64.b64decode(pair["key"]).decode().removeprefix(self._prefix)
        place, _, name = key.rpartition("/")
        plural = _plural_at(place)
        obj = msgspec.json.decode(base64.b64decode(pair["value"]))
        obj["metadata"]["resourceVersion"] = pair["mod_revision"]
        stored = stored_of(plural, obj, msgspec.json.encode(obj))
        if self._key(plural, stored) != self._prefix + key or stored.name != name:
            raise ValueError(f"{key} has another object")
        return plural, stored

    def _restore(self, snapshot: snapshots.Snapshot) -> None:
        """Replace everything beneath the prefix. If it breaks off, it is done again: the snapshot is still there."""
        answer = self._transact(
            [], [_put(self._claim_key, b"restoring"), _delete(self._prefix, range_end=_end(self._prefix))]
        )
        puts = []
        for plural, raw in snapshot.objects:
            obj = msgspec.json.decode(raw)
            stored = stored_of(plural, obj, raw)
            puts.append(_put(self._key(plural, stored), _unversioned(obj)))
        for start in range(0, len(puts), _MOST_OPERATIONS):
            answer = self._transact([], puts[start : start + _MOST_OPERATIONS])
        # Many of these changes have one revision, so a watch could not go on amid them: they are no history.
        self._gateway.call("kv/compaction", {"revision": str(_revision(answer))})

    def settle(self) -> list[tuple[str, Event]]:
        """Take back a write that got no answer, if it was made (`Backend.settle`)."""
        if self._pending is None:
            return []
        plural, key, before = self._pending
        try:
            was_made, revision = self._take_back(key, before)
        except (AwayError, UncertainError, RefusedError) as error:
            raise _refusal(error) from error
        self._claim, self._pending = revision, None
        if not was_made or before is None:
            return []
        return [(plural, Event(revision, before, at_revision(plural, before, revision)))]

    def _take_back(self, key: str, before: Stored | None) -> tuple[bool, int]:
        """Make a new claim, and the object what it was; whether it was another one, and the revision."""
        claim, claimed = self._mod_revision(self._claim_key)
        present, _ = self._mod_revision(key)
        if claimed != self._identity:
            raise UncertainError("another API server has claimed the objects in etcd")
        was_made = present != (before.revision if before is not None else 0)
        operations = [_put(self._claim_key, self._identity)]
        if was_made:
            operations.append(_put(key, _unversioned(before.decode())) if before is not None else _delete(key))
        # The write, or an earlier try to take it back, may still come in between: both would fail after this.
        answer = self._transact([_unchanged(self._claim_key, claim), _unchanged(key, present)], operations)
        if not answer.get("succeeded", False):
            raise UncertainError("the objects are changing")
        return was_made, _revision(answer)

    def _mod_revision(self, key: str) -> tuple[int, bytes]:
        """The revision of a key's last change, and its value; 0 if it is not there."""
        for pair in self._gateway.call("kv/range", {"key": encoded(key.encode())}).get("kvs", []):
            return int(pair["mod_revision"]), base64.b64decode(pair.get("value", ""))
        return 0, b""

    def put(self, plural: str, before: Stored | None, obj: JSONObject, limit: int | None) -> Stored:
        """Write an object, as `Backend.put`."""
        value = _unversioned(obj)
        check_size(value, limit)
        meta = obj["metadata"]
        key = f"{self._prefix}{_place_of(plural)}/{_place(meta.get('namespace', ''), meta['name'])}"
        revision = self._write(_Pending(plural, key, before), _put(key, value))
        meta["resourceVersion"] = str(revision)
        return stored_of(plural, obj, msgspec.json.encode(obj))

    def remove(self, plural: str, before: Stored) -> Stored:
        """Delete an object, as `Backend.remove`."""
        key = self._key(plural, before)
        return at_revision(plural, before, self._write(_Pending(plural, key, before), _delete(key)))

    def _write(self, pending: _Pending, operation: dict[str, Any]) -> int:
        present = pending.before.revision if pending.before is not None else 0
        conditions = [_unchanged(self._claim_key, self._claim), _unchanged(pending.key, present)]
        try:
            answer = self._transact(conditions, [operation])
        except UncertainError as error:
            self._pending = pending
            raise _refusal(error) from error
        except (AwayError, RefusedError) as error:
            raise _refusal(error) from error
        if not answer.get("succeeded", False):
            raise refusals.storage_failed(
                ValueError("another has written to it; restart this API server, and let no other write there")
            )
        return _revision(answer)

    def compact(self, revision: int) -> None:
        """Have etcd forget, as `Backend.compact`; it has more than one lab's history, and refuses what it has done."""
        with contextlib.suppress(AwayError, UncertainError, RefusedError):
            self._gateway.call("kv/compaction", {"revision": str(revision)})

    def check(self) -> None:
        """Raise what is wrong if etcd does not answer, or another server has claimed the prefix."""
        claim, _ = self._mod_revision(self._claim_key)
        if claim != self._claim:
            raise ValueError("another API server has claimed the objects in etcd")

    def close(self) -> None:
        """End the connection."""
        self._gateway.close()

    def _key(self, plural: str, stored: Stored) -> str:
        return f"{self._prefix}{_place_of(plural)}/{_place(stored.namespace, stored.name)}"

    def _transact(self, conditions: Sequence[dict[str, Any]], operations: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self._gateway.call("kv/txn", {"compare": conditions, "success": operations})


def _place_of(plural: str) -> str:
    """Where the objects of a resource are; those of a custom one, PLURAL.GROUP, as if it were built in."""
    if plural in _PLACES:
        return _PLACES[plural]
    name, _, group = plural.partition(".")
    return f"{group}/{name}"


def _plural_at(place: str) -> str:
    """The resource whose objects are at a place, or in a namespace there. Raises `KeyError`."""
    found = _PLURALS.get(place) or _PLURALS.get(place.rpartition("/")[0])
    group, _, rest = place.partition("/")
    # The group of a custom resource is a domain; what has no group has no dot either.
    if found is None and "." in group and rest:
        return f"{rest.partition('/')[0]}.{group}"
    return found or _PLURALS[place]


def _place(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _end(prefix: str) -> bytes:
    """The end of the range of all keys that begin with a prefix."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _put(key: str, value: bytes) -> dict[str, Any]:
    return {"request_put": {"key": encoded(key.encode()), "value": encoded(value)}}


def _delete(key: str, range_end: bytes = b"") -> dict[str, Any]:
    request = {"key": encoded(key.encode())}
    return {"request_delete_range": request | ({"range_end": encoded(range_end)} if range_end else {})}


def _unchanged(key: str, revision: int) -> dict[str, Any]:
    """The condition that a key has this mod_revision: 0 if it is not there."""
    return {"key": encoded(key.encode()), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _revision(answer: dict[str, Any]) -> int:
    return int(answer["header"]["revision"])


def _unversioned(obj: JSONObject) -> bytes:
    """An object's JSON as etcd has it: its revision is known only when it is written."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    return msgspec.json.encode(obj | {"metadata": meta})


def _refusal(error: AwayError | UncertainError | RefusedError) -> Exception:
    if isinstance(error, AwayError):
        return refusals.storage_away(error)
    if isinstance(error, UncertainError):
        return refusals.storage_silent(error)
    return refusals.no_space(error) if error.is_no_space else refusals.storage_failed(error)
