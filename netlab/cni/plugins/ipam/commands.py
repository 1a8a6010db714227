"""ADD and DEL of the plugin `netlab-ipam`."""

from __future__ import annotations

from netlab.cni.plugins.ipam.ranges import candidates, range_of
from netlab.cni.plugins.ipam.store import Store, folder_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import format_address, parse_address
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.ipam.ranges import Range
    from netlab.cni.plugins.request import Handler, Request
    from netlab.cni.spec.codec import Object


def add(request: Request) -> Object:
    """ADD: one address of each range set; the result has no interfaces. Raises `CniError`."""
    from netlab.cni.plugins.ipam.config import Config  # a DEL does not need it

    config = Config(request)
    requested = _place(request.requested_ips, config.sets)
    result: Object = {"ips": []}
    if config.routes:
        result["routes"] = config.routes
    if config.resolv_conf:
        from netlab.cni.plugins.ipam.resolvconf import read_resolv_conf

        result["dns"] = read_resolv_conf(config.resolv_conf)
    identity = _identity(request) if config.sticky else ""
    try:
        with Store(config.folder, create=True, boot_id_file=config.boot_id_file) as store:
            given = _choose(request, store, config.sets, requested, identity)
            addresses = [address for address, _ in given]
            store.remember(addresses, config.sets)
            if identity:
                store.stick(identity, addresses)
            store.reserve(addresses, request.container_id, request.ifname)
    except OSError as error:
        from netlab.cni.plugins.ipam import refusals

        raise refusals.disk_failure(config.folder, error) from error
    for address, item in given:
        gateway = format_address(item.gateway.address, item.gateway.bits)
        result["ips"].append({"address": f"{address}/{item.subnet.length}", "gateway": gateway})
    return result


def _choose(
    request: Request, store: Store, sets: list[list[Range]], requested: dict[int, tuple[str, Range]], identity: str
) -> list[tuple[str, Range]]:
    """A free address of each range set: the requested one, the previous one, or the next in turn."""
    if already := store.addresses(request.container_id, request.ifname):
        from netlab.cni.plugins.ipam import refusals

        raise refusals.held_already(request, already)
    sticky = store.recall(identity) if identity else []
    given = []
    for number, ranges in enumerate(sets):
        found = requested.get(number)
        if found and store.is_taken(found[0]):
            from netlab.cni.plugins.ipam import refusals

            raise refusals.taken(store, found[0])
        again = None if found else _first_within(ranges, sticky)
        if again and not store.is_taken(again[0]):
            found = again
        if not found:
            last = _first_within(ranges, store.state.last)
            found = store.first_free(candidates(ranges, parse_address(last[0])[0] if last else None))
        if not found:
            from netlab.cni.plugins.ipam import refusals

            raise refusals.exhausted(request, store, ranges, errors.ADDRESSES_EXHAUSTED)
        given.append(found)
    return given


def _first_within(ranges: list[Range], addresses: list[str]) -> tuple[str, Range] | None:
    for text in addresses:
        item = range_of(ranges, text)
        if item:
            return text, item
    return None


def _place(asked: list[str], sets: list[list[Range]]) -> dict[int, tuple[str, Range]]:
    """The requested addresses, by the number of the range set they belong to."""
    placed: dict[int, tuple[str, Range]] = {}
    for value in asked:
        address, bits = parse_address(value.partition("/")[0])
        text = format_address(address, bits)
        for number, ranges in enumerate(sets):
            item = range_of(ranges, text)
            if item is None:
                continue
            if number in placed:
                raise CniError(
                    errors.UNSUPPORTED_FIELD,
                    f"ips: {value!r} and {placed[number][0]!r} are in one range set, which gives one address; request"
                    " only one of them",
                )
            placed[number] = text, item
            break
        else:
            from netlab.cni.plugins.ipam import refusals

            raise refusals.not_given(value, address, bits, sets)
    return placed


def _identity(request: Request) -> str:
    """Identifies a returning container: a pod by its name, which outlives its sandboxes; any other by its id."""
    namespace, pod = (request.cni_args.get(f"K8S_POD_{key}", "") for key in ("NAMESPACE", "NAME"))
    who = f"{namespace}/{pod}" if namespace and pod else request.container_id
    return f"{who}:{request.ifname}"


def delete(request: Request) -> None:
    """DEL: free what the interface holds; succeeds if that is nothing. Raises `CniError`."""
    folder = folder_of(request)
    try:
        # Not reconciled: whatever it holds must go, whenever it was reserved and even if the boot id cannot be read.
        with Store(folder) as store:
            store.release(request.container_id, request.ifname)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        from netlab.cni.plugins.ipam import refusals

        raise refusals.disk_failure(folder, error) from error


def _rest(request: Request) -> None:
    """CHECK, GC and STATUS, whose module an ADD does not need."""
    from netlab.cni.plugins.ipam import audit

    {"CHECK": audit.check, "GC": audit.collect_garbage, "STATUS": audit.status}[request.command](request)


HANDLERS: dict[str, Handler] = {"ADD": add, "DEL": delete, "CHECK": _rest, "GC": _rest, "STATUS": _rest}
