"""What a list or a watch asks for, and the pages of a list from one consistent revision.

A page of an older revision is made from the present objects and the events since then, backwards: nothing is kept for
a client that may never ask for its next page.
"""

from __future__ import annotations

import base64
import bisect
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from netlab.api import selectors
from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.api.server import refusals
from netlab.api.server.objects import field_selectors
from netlab.api.server.objects.problems import Problems
from netlab.api.server.rest.views import ListMeta
from netlab.api.server.storage.store import Key, Store
from netlab.api.server.storage.watch import Selection, Stored
from netlab.errors import UsageError

EXACT, NOT_OLDER_THAN = "Exact", "NotOlderThan"

_MOST_DIGITS = 19
"""Of a number of 63 bits."""

_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105
_PRESENT = -1
"""The revision of a token that goes on with whatever is there."""


def is_true(value: str | None) -> bool:
    """A truth value of a query; one without a value is true."""
    return value in ("1", "true", "True", "")


def number(params: Mapping[str, str], name: str) -> int:
    """A whole number of a query; 0 if it is not there. Raises `ApiError` (400)."""
    text = params.get(name, "") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS):
        raise refusals.bad_request(f'{name}: Invalid value: "{text}": must be a whole number')
    return int(text)


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """metav1.ListOptions."""

    selection: Selection
    revision: int | None
    """resourceVersion; None if it was not given."""
    match: str
    limit: int
    token: str
    seconds: int
    wants_bookmarks: bool
    sends_initial: bool | None
    """sendInitialEvents; None if it was not given."""


def read_options(resource: Resource[Object], namespace: str, params: Mapping[str, str], *, watch: bool) -> ListOptions:
    """The options of a list or a watch. Raises `ApiError` (400, 422)."""
    try:
        labels = selectors.parse(params.get("labelSelector", ""))
        fields = field_selectors.parse(params.get("fieldSelector", ""), resource)
    except UsageError as error:
        raise refusals.bad_request(str(error)) from None
    initial = params.get("sendInitialEvents")
    options = ListOptions(
        Selection(namespace, labels, fields),
        number(params, "resourceVersion") if params.get("resourceVersion") else None,
        params.get("resourceVersionMatch", ""),
        number(params, "limit"),
        params.get("continue", ""),
        number(params, "timeoutSeconds"),
        is_true(params.get("allowWatchBookmarks")),
        None if initial is None else is_true(initial),
    )
    problems = Problems()
    (_check_watch if watch else _check_list)(options, problems)
    if problems:
        raise refusals.invalid_options("ListOptions", problems)
    return options


_MATCH, _INITIAL = "resourceVersionMatch", "sendInitialEvents"


def _check_list(options: ListOptions, problems: Problems) -> None:
    if options.match:
        if options.revision is None:
            problems.forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided")
        if options.token:
            problems.forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")
        problems.one_of(_MATCH, options.match, (EXACT, NOT_OLDER_THAN, ""))
        if options.match == EXACT and options.revision == 0:
            problems.forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"')
    if options.sends_initial is not None:
        problems.forbidden(_INITIAL, f"{_INITIAL} is forbidden for list")


def _check_watch(options: ListOptions, problems: Problems) -> None:
    if options.sends_initial is not None and options.match != NOT_OLDER_THAN:
        problems.forbidden(_MATCH, f"{_INITIAL} requires setting {_MATCH} to {NOT_OLDER_THAN}")
    if options.match:
        if options.sends_initial is None:
            problems.forbidden(_MATCH, f"{_MATCH} is forbidden for watch unless {_INITIAL} is provided")
        problems.one_of(_MATCH, options.match, (NOT_OLDER_THAN,))
        if options.token:
            problems.forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")


# --- pages -----------------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    """Some objects of a list, and what is said of the list."""

    items: list[Stored]
    meta: ListMeta


def page(store: Store, resource: Resource[Object], options: ListOptions) -> Page:
    """The objects that a list asks for. Raises `ApiError` (400, 410, 504)."""
    if options.token:
        revision, start = _read_token(options.token)
        if options.revision is not None and options.revision > 0:
            raise refusals.bad_request("specifying resource version is not allowed when using continue")
        revision = store.revision if revision == _PRESENT else revision
        objects = _objects_of_page(store, resource, revision, start)
    else:
        revision, start = _revision(store, options), None
        objects = store.objects_at(resource, revision)
    keys = sorted(objects)
    first = bisect.bisect_right(keys, start) if start is not None else 0
    # As upstream's cache, which is what "0" asks for: it has no pages.
    limit = 0 if options.revision == 0 and not options.token else options.limit
    selection = options.selection
    meta = ListMeta(str(revision))
    if not limit:
        found = (objects[key] for key in keys[first:])
        return Page([each for each in found if selection.matches(each)], meta)
    items: list[Stored] = []
    for index in range(first, len(keys)):
        stored = objects[keys[index]]
        if not selection.matches(stored):
            continue
        if len(items) == limit:
            meta.more = _write_token(revision, items[-1])
            if selection.takes_all:
                namespace = selection.namespace
                meta.remainingItemCount = sum(not namespace or key[0] == namespace for key in keys[index:])
            break
        items.append(stored)
    return Page(items, meta)


def check_reached(store: Store, revision: int) -> None:
    """Raise `ApiError` (504) unless the server knows the revision."""
    if revision > store.revision:
        raise refusals.too_new(revision, store.revision)


def _revision(store: Store, options: ListOptions) -> int:
    """At which revision a list is to be: the present one is not older than any that was."""
    asked = options.revision or 0
    check_reached(store, asked)
    exact = options.match == EXACT or (not options.match and options.limit > 0)
    return asked if asked and exact else store.revision


def _objects_of_page(store: Store, resource: Resource[Object], revision: int, start: Key) -> Mapping[Key, Stored]:
    try:
        return store.objects_at(resource, revision)
    except refusals.Expired:
        raise refusals.expired_page(_encode(_Token(_TOKEN_VERSION, _PRESENT, _key_text(start)))) from None


class _Token(msgspec.Struct):
    """What a continue token says; its form is upstream's (apiserver pkg/storage/continue.go)."""

    v: str
    rv: int
    start: str


def _write_token(revision: int, last: Stored) -> str:
    return _encode(_Token(_TOKEN_VERSION, revision, _key_text((last.namespace, last.name))))


def _encode(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def _key_text(key: Key) -> str:
    """The first key that may follow."""
    return "/".join(filter(None, key)) + "\0"


def _read_token(text: str) -> tuple[int, Key]:
    """The revision of a list and the key after which it goes on."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(raw, type=_Token)
    except (ValueError, msgspec.MsgspecError):
        raise refusals.bad_request("continue key is not valid") from None
    if token.v != _TOKEN_VERSION:
        message = f"continue key is not valid: server does not recognize this encoded version {token.v}"
        raise refusals.bad_request(message)
    if token.rv == 0:
        raise refusals.bad_request("continue key is not valid: incorrect encoded start resourceVersion")
    *namespace, name = token.start.removesuffix("\0").split("/")
    if not name or len(namespace) > 1 or token.rv < _PRESENT:
        raise refusals.bad_request(f"continue key is not valid: {token.start!a}")
    return token.rv, ("".join(namespace), name)
