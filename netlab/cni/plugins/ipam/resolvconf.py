"""`ipam.resolvConf`: the `dns` of the result, from a file in the format of resolv.conf(5)."""

from __future__ import annotations

from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.codec import Object

_LARGEST = 1 << 16


def read_resolv_conf(path: str) -> Object:
    """The `dns` object for a file. Raises `CniError`."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise CniError(errors.IO_FAILURE, f"ipam.resolvConf: {path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise CniError(errors.DECODING_FAILURE, f"ipam.resolvConf: {path}: larger than {_LARGEST >> 10} KiB")
    return parse_resolv_conf(content.decode(errors="replace"))


def parse_resolv_conf(text: str) -> Object:
    """Nameservers, domain, search list and options; as in host-local, `search` and `options` lines add up."""
    dns: Object = {}
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if not values or keyword.startswith(("#", ";")):
            continue
        if keyword == "nameserver":
            dns.setdefault("nameservers", []).append(values[0])
        elif keyword == "domain":
            dns["domain"] = values[0]
        elif keyword in {"search", "options"}:
            dns.setdefault(keyword, []).extend(values)
    return dns
