"""Which media types bodies may have, and what a client wants its answer to be: the one place to add another to.

The rules are those of apiserver's pkg/endpoints/handlers/negotiation: the first clause of Accept that can be given is
given, whatever stands behind it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from netlab.api.errors import ApiError
from netlab.api.media_types import JSON, PROTOBUF, YAML
from netlab.api.resources import Kind
from netlab.api.server import refusals
from netlab.api.server.objects import bodies
from netlab.api.server.rest import protobuf_bodies
from netlab.api.server.storage.watch import Change

_META = "meta.k8s.io"

TABLE, METADATA, METADATA_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"

FORMS = frozenset(
    Kind(_META, version, kind) for version in ("v1", "v1beta1") for kind in (TABLE, METADATA, METADATA_LIST)
)
"""What objects can be returned as, besides what they are."""

OF_AN_ANSWER = frozenset(form for form in FORMS if form.kind != TABLE)
"""The same of the answers to a review's question: there are no columns of them."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A media type of bodies. Whatever it is, the server's own values are JSON."""

    media_type: str
    encode: Callable[[bytes], bytes]
    """From the JSON of one object: of a kind of the API, of a list, or of a Status."""
    decode: Callable[[bytes], Any]
    """To a JSON value. Raises `ApiError` (400)."""
    stream_type: str
    """The media type of a watch."""
    frame: Callable[[Change], bytes]
    """One event of a watch."""
    lacks: frozenset[Kind] = frozenset()
    """The forms for which it has no messages."""


def _unchanged(body: bytes) -> bytes:
    return body


def _line(change: Change) -> bytes:
    return change.line


_LACKING_IN_PROTOBUF = frozenset(
    {
        *(form for form in FORMS if form.kind == TABLE or form.version != "v1"),
        *(Kind("apidiscovery.k8s.io", version, "APIGroupDiscoveryList") for version in ("v2", "v2beta1")),
    }
)

FORMATS: dict[str, Format] = {
    JSON: Format(JSON, _unchanged, bodies.decode, JSON, _line),
    PROTOBUF: Format(
        PROTOBUF,
        protobuf_bodies.encode,
        protobuf_bodies.decode,
        f"{PROTOBUF};stream=watch",
        protobuf_bodies.frame,
        _LACKING_IN_PROTOBUF,
    ),
}
"""By media type, the server's preferred one first."""

FORMATS_OF_CUSTOM = frozenset({JSON})
"""Those in which objects of custom resources can be given as they are, or sent: protobuf has no messages for them."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client wants: a format, and an object in another form than its own (None: as it is)."""

    format: Format
    form: Kind | None = None


@functools.lru_cache(maxsize=256)
def negotiate(accept: str, forms: frozenset[Kind] = FORMS, plain: frozenset[str] = frozenset(FORMATS)) -> Answer:
    """What an Accept header asks for, where these `forms` can be given, and what has none in the `plain` formats.

    Raises `ApiError` (406).
    """
    if not accept.strip():
        return Answer(_preferred())
    for clause in sorted(_clauses(accept), key=_rank):
        for format in FORMATS.values():
            if not clause.matches(format.media_type):
                continue
            form = clause.form
            if form is None and format.media_type not in plain:
                continue
            if clause.stream in ("", "watch") and (form is None or form in forms - format.lacks):
                return Answer(format, form)
    raise refusals.not_acceptable(tuple(each for each in FORMATS if each in plain))


def format_of_refusal(accept: str) -> Format:
    """What a Status is written in: as the answer would be, unless that is what is refused."""
    try:
        return negotiate(accept).format
    except ApiError:
        return _preferred()


def format_of_body(kind: str, formats: Iterable[str] = tuple(FORMATS)) -> Format:
    """The format of a body of a media type that was sent (empty: none was given). Raises `ApiError` (415)."""
    format = FORMATS.get(kind) if kind else _preferred()
    if format is None or format.media_type not in formats:
        raise refusals.unsupported_media_type(kind, (*formats, YAML))
    return format


def media_type(content_type: str) -> str:
    """A Content-Type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


class _Clause(NamedTuple):
    type: str
    parameters: dict[str, str]
    quality: float

    @property
    def form(self) -> Kind | None:
        parts = [self.parameters.get(name, "") for name in ("g", "v", "as")]
        return Kind(*parts) if any(parts) else None

    @property
    def stream(self) -> str:
        return self.parameters.get("stream", "")

    def matches(self, media_type: str) -> bool:
        main, _, sub = self.type.partition("/")
        offered_main, _, offered_sub = media_type.partition("/")
        return main in ("*", offered_main) and sub in ("*", offered_sub)


def _rank(clause: _Clause) -> tuple[float, int]:
    """The best first; what names a type before a wildcard."""
    return -clause.quality, clause.type.count("*")


def _clauses(accept: str) -> Iterator[_Clause]:
    for text in accept.split(","):
        kind, *rest = (part.strip() for part in text.split(";"))
        parameters = dict(_pairs(rest))
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if kind and quality > 0:
            yield _Clause(kind.lower(), parameters, quality)


def _pairs(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, _, value = part.partition("=")
        yield name.strip(), value.strip().strip('"')


def _preferred() -> Format:
    return next(iter(FORMATS.values()))
