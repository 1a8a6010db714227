"""The rules that kinds share: names, labels, addresses, ports. Each complains to `problems` about the path."""

from __future__ import annotations

import ipaddress
import re

from netlab.api import selectors
from netlab.api.meta_types import IntOrString, LabelSelector, Object, ObjectMeta
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.errors import UsageError

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEARCH_PATH = re.compile(r"[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*\.?|\.")

PROTOCOLS = ("TCP", "UDP", "SCTP")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _matches(pattern: re.Pattern[str], longest: int, value: str) -> bool:
    return len(value) <= longest and pattern.fullmatch(value) is not None


def dns_label(path: str, value: str, problems: Problems) -> None:
    """A DNS-1123 label."""
    if not _matches(_DNS_LABEL, 63, value):
        detail = "a lowercase RFC 1123 label must consist of at most 63 lower case alphanumeric characters or '-', "
        problems.invalid(path, value, detail + "and must start and end with an alphanumeric character")


def dns_subdomain(path: str, value: str, problems: Problems) -> None:
    """A DNS-1123 subdomain: labels joined by dots."""
    if not _matches(_DNS_SUBDOMAIN, 253, value):
        detail = (
            "a lowercase RFC 1123 subdomain must consist of at most 253 lower case alphanumeric characters, '-' or "
        )
        problems.invalid(path, value, detail + "'.', and must start and end with an alphanumeric character")


def search_path(path: str, value: str, problems: Problems) -> None:
    """A domain of resolv.conf: a subdomain that may have underscores, as SRV records' have, or the root (1.34)."""
    if not _matches(_SEARCH_PATH, 254, value):
        detail = "a search path must consist of at most 253 lower case alphanumeric characters, '-', '_' or '.', "
        problems.invalid(path, value, detail + "and must not start or end with '-', or be '.' alone")


def dns_1035(path: str, value: str, problems: Problems) -> None:
    """A DNS-1035 label: as DNS-1123, but it begins with a letter."""
    if not _matches(_DNS_1035, 63, value):
        detail = "a DNS-1035 label must consist of at most 63 lower case alphanumeric characters or '-', start with an "
        problems.invalid(path, value, detail + "alphabetic character, and end with an alphanumeric character")


def service_name(path: str, value: str, problems: Problems) -> None:
    """IANA_SVC_NAME (RFC 6335): at most 15 characters with at least one letter."""
    valid = _matches(_DNS_LABEL, 15, value) and "--" not in value and any(letter.isalpha() for letter in value)
    if not valid:
        detail = "must be at most 15 lower case alphanumeric characters or '-' with at least one letter, and no '--'"
        problems.invalid(path, value, detail)


def path_segment(path: str, value: str, problems: Problems) -> None:
    """A part of a URL's path: names with colons (RBAC), or with a dot at their end (that of the core group)."""
    if value in (".", "..") or any(each in value for each in "/%"):
        problems.invalid(path, value, "may not be '.' or '..', or contain '/' or '%'")


def descending_path(path: str, value: str, problems: Problems) -> bool:
    """Whether it is a relative path that does not lead up (validateLocalDescendingPath)."""
    if value.startswith("/"):
        problems.invalid(path, value, "must be a relative path")
    elif ".." in value.split("/"):
        problems.invalid(path, value, "must not contain '..'")
    else:
        return True
    return False


def metadata(meta: ObjectMeta, kind: str, problems: Problems) -> None:
    """The name that the kind allows, labels, and annotations."""
    check = _NAMES.get(kind, dns_subdomain)
    check("metadata.name", meta.name, problems)
    labels("metadata.labels", meta.labels, problems)
    for key in meta.annotations:
        if not selectors.is_label_key(key.lower()):
            problems.invalid("metadata.annotations", key, "an annotation's key is a qualified name, as a label's is")
    for index, owner in enumerate(meta.ownerReferences):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not getattr(owner, field):
                problems.required(f"metadata.ownerReferences[{index}].{field}")
    for index, finalizer in enumerate(meta.finalizers):
        if not selectors.is_label_key(finalizer):
            problems.invalid(f"metadata.finalizers[{index}]", finalizer, "name part must be a qualified name")


def metadata_update(new: ObjectMeta, old: ObjectMeta, problems: Problems) -> None:
    """What an object is called and when it was made never changes; a dying object gets no new finalizers."""
    problems.unchanged("metadata.name", new.name, old.name)
    problems.unchanged("metadata.namespace", new.namespace, old.namespace)
    if old.deletionTimestamp is not None and (added := set(new.finalizers) - set(old.finalizers)):
        detail = f"no new finalizers can be added if the object is being deleted, found {sorted(added)}"
        problems.forbidden("metadata.finalizers", detail)


def labels(path: str, labels: dict[str, str], problems: Problems) -> None:
    """The keys and values of labels."""
    for key, value in labels.items():
        if not selectors.is_label_key(key):
            detail = "a label's key is an optional DNS prefix and '/', and at most 63 alphanumeric, '-', '_' or '.'"
            problems.invalid(path, key, detail)
        if not selectors.is_label_value(value):
            detail = "a valid label must be empty or at most 63 alphanumeric characters, '-', '_' or '.', "
            problems.invalid(path, value, detail + "and must start and end with an alphanumeric character")


def label_selector(path: str, selector: LabelSelector, problems: Problems) -> None:
    """Operators, and values where they belong."""
    try:
        selectors.from_label_selector(selector)
    except UsageError as error:
        problems.invalid(path, selector, str(error))


def ip(path: str, value: str, problems: Problems) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without a zone; it, if it is one."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        address = None
    if address is None or "%" in value:
        problems.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return None
    return address


def canonical_ip(path: str, value: str, problems: Problems) -> None:
    """An address as it is written in full and short: what is one address has one name."""
    address = ip(path, value, problems)
    if address is not None and str(address) != value:
        problems.invalid(path, value, f"must be in canonical form ({str(address)!r})")


def cidr(path: str, value: str, problems: Problems) -> int | None:
    """The family's number, if it is a network."""
    try:
        network = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        network = None
    if network is None or "/" not in value:
        problems.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        return None
    return network.version


def port(path: str, value: int, problems: Problems) -> None:
    """A port's number."""
    problems.in_range(path, value, 1, 65535)


def port_or_name(path: str, value: IntOrString, problems: Problems) -> None:
    """A port's number, or the name of one."""
    if isinstance(value, int):
        port(path, value, problems)
    else:
        service_name(path, value, problems)


def taint(path: str, key: str, value: str, problems: Problems) -> None:
    """The key and the value of a taint or a toleration."""
    if key and not selectors.is_label_key(key):
        problems.invalid(f"{path}.key", key, "must be a qualified name, as a label's key is")
    if not selectors.is_label_value(value):
        problems.invalid(f"{path}.value", value, "must be a valid label value")


def anything(new: Object, problems: Problems) -> None:
    """A kind of which nothing is known but the types of its fields."""


def any_json(new: JSONObject, old: JSONObject | None, problems: Problems) -> None:
    """A kind that is checked by its type alone."""


def any_update(new: Object, old: Object, problems: Problems) -> None:
    """A kind whose fields may all change."""


_NAMES = {
    "Namespace": dns_label,
    "Service": dns_1035,
    "IPAddress": canonical_ip,
    **dict.fromkeys(("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "APIService"), path_segment),
}
"""What the names of kinds are made of; of those that are not named, DNS subdomains."""
