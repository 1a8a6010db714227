"""Which ReplicaSet has a Deployment's current template, and how ReplicaSets are named after their templates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from netlab.api.apps_types import Deployment, PodTemplateSpec, ReplicaSet

HASH_LABEL = "pod-template-hash"

# The letters of upstream's generated names: no vowels, so that they form no words (apimachinery util/rand).
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def split(deployment: Deployment, owned: Iterable[ReplicaSet]) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
    """The ReplicaSet of the current template, the oldest if there are several, and the others, oldest first."""
    ordered = sorted(owned, key=lambda rs: (rs.metadata.creationTimestamp or "", rs.metadata.name))
    wanted = _canonical(deployment.spec.template)
    new = next((rs for rs in ordered if _canonical(rs.spec.template) == wanted), None)
    return new, [rs for rs in ordered if rs is not new]


def same_template(one: PodTemplateSpec, other: PodTemplateSpec) -> bool:
    """Whether two templates are equal except for the hash label."""
    return _canonical(one) == _canonical(other)


def template_hash(template: PodTemplateSpec, collisions: int) -> str:
    """The value of pod-template-hash: 32 bits of the template, varied by the number of collisions."""
    digest = hashlib.blake2b(_canonical(template) + str(collisions or "").encode(), digest_size=4).digest()
    return safe_digits(str(int.from_bytes(digest, "big")))


def safe_digits(number: str) -> str:
    """A number as a part of a name, in upstream's letters."""
    return "".join(_SAFE[ord(digit) % len(_SAFE)] for digit in number)


def _canonical(template: PodTemplateSpec) -> bytes:
    labels = {k: v for k, v in template.metadata.labels.items() if k != HASH_LABEL}
    meta = msgspec.structs.replace(template.metadata, labels=labels, creationTimestamp=None)
    return msgspec.json.encode(PodTemplateSpec(metadata=meta, spec=template.spec), order="sorted")
