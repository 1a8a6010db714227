"""Which level is demanded of a namespace's pods, by its labels (pod-security-admission api/helpers.go)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from netlab.api.server.objects.problems import Problems

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the one that allows everything to the strictest."""

LATEST = 1 << 16
"""The number of the version that is newer than all others."""

PREFIX = "pod-security.kubernetes.io/"

_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,3})")


@dataclasses.dataclass(frozen=True)
class Demand:
    """A level, as a version of Kubernetes defines it: the number behind its dot."""

    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.version == LATEST else f'v1.{self.version}'}"


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is refused, and of what is warned. What is written into an audit log is nobody's here: there is none."""

    enforce: Demand = dataclasses.field(default_factory=Demand)
    warn: Demand = dataclasses.field(default_factory=Demand)


def of_labels(labels: Mapping[str, str]) -> tuple[Policy, Problems]:
    """The policy, and what is wrong with the labels.

    In the place of a level that there is not, the strictest is enforced, and nothing is warned of.
    """
    problems = Problems()
    enforce, named = _demand("enforce", labels, RESTRICTED, problems)
    _demand("audit", labels, PRIVILEGED, problems)
    warn, _ = _demand("warn", labels, PRIVILEGED, problems)
    is_stricter = named and LEVELS.index(enforce.level) > LEVELS.index(warn.level)
    if f"{PREFIX}warn" not in labels and is_stricter:
        # Of a Deployment's template is warned as its pods are refused.
        version = warn.version if f"{PREFIX}warn-version" in labels else enforce.version
        warn = Demand(enforce.level, version)
    return Policy(enforce, warn), problems


def _demand(mode: str, labels: Mapping[str, str], otherwise: str, problems: Problems) -> tuple[Demand, bool]:
    """What one mode demands, and whether its level was named rightly."""
    key, level, version = f"{PREFIX}{mode}", PRIVILEGED, LATEST
    named = False
    if key in labels:
        named = labels[key] in LEVELS
        level = labels[key] if named else otherwise
        if not named:
            problems.invalid(f"metadata.labels[{key}]", labels[key], f"must be one of {', '.join(LEVELS)}")
    key = f"{key}-version"
    if (text := labels.get(key, "latest")) != "latest":
        match = _VERSION.fullmatch(text)
        if match is not None:
            version = int(match[1])
        else:
            problems.invalid(f"metadata.labels[{key}]", text, 'must be "latest" or "v1.x"')
    return Demand(level, version), named
