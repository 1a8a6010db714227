"""Which addresses may be given, and in which order.

A range is kept as spans of addresses that leave out the gateway and the excluded addresses: choosing the next address
costs the same whatever is excluded.
"""

from __future__ import annotations

from netlab.cni.spec.addresses import format_address, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netlab.cni.spec.addresses import Prefix


class Range:
    """Addresses of one subnet for containers: `spans` in order, both ends inclusive.

    They lie between `first` and `last`, without `gateway` and the `excluded` addresses. The gateway may be outside the
    subnet, and even of the other family.
    """

    __slots__ = ("excluded", "first", "gateway", "last", "spans", "subnet")

    def __init__(
        self, subnet: Prefix, first: int, last: int, gateway: Prefix, excluded: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.subnet = subnet
        self.first = first
        self.last = last
        self.gateway = gateway
        self.excluded = excluded
        own = [(gateway.address, gateway.address)] if gateway.bits == subnet.bits else []
        self.spans = _without(first, last, [*own, *excluded])

    @property
    def size(self) -> int:
        """The number of addresses it can give."""
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, address: int) -> bool:
        return any(first <= address <= last for first, last in self.spans)

    def __str__(self) -> str:
        first, last = (format_address(end, self.subnet.bits) for end in (self.first, self.last))
        return f"{first}-{last}"


def _without(first: int, last: int, holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    spans = []
    start = first
    for low, high in sorted(holes):
        if start < low and start <= last:
            spans.append((start, min(low - 1, last)))
        start = max(start, high + 1)
    if start <= last:
        spans.append((start, last))
    return spans


def candidates(ranges: Sequence[Range], last: int | None) -> Iterator[tuple[int, Range]]:
    """Every address once, starting after `last`, so that a released address is not reused at once."""
    spans = [(low, high, item) for item in ranges for low, high in item.spans]
    start = next((n for n, (low, high, _) in enumerate(spans) if last is not None and low <= last <= high), None)
    if start is not None and last is not None:
        low, high, item = spans[start]
        spans = [(last + 1, high, item), *spans[start + 1 :], *spans[:start], (low, last, item)]
    for low, high, item in spans:
        for address in range(low, high + 1):
            yield address, item


def range_of(ranges: Sequence[Range], text: str) -> Range | None:
    """The range of a set that contains the address, if any."""
    try:
        address, bits = parse_address(text)
    except ValueError:
        return None
    return next((item for item in ranges if bits == item.subnet.bits and address in item), None)
