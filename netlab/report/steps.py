"""The few steps that explain a path, beside its picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from netlab.net.addresses import end_text
from netlab.report.decisions import decisions, deeds
from netlab.report.markup import Markup, element
from netlab.trace.model import Hop

_LAST = "sees the packet last"


class Step(NamedTuple):
    """A hop where something happened: its number in the picture, what happened, and why."""

    number: int
    kind: str
    where: str
    what: list[str]
    why: str = ""


def steps(
    there: Sequence[Hop],
    back: Sequence[Hop],
    *,
    lost: str = "",
    reason: str = "",
    names: Mapping[str, str] | None = None,
) -> list[Step]:
    """Where the packet begins, where it is changed, and where it ends; for the reply, also what is changed back.

    `lost` says which way ended too early (`there` or `back`), `reason` why; `names` has the owners of addresses.
    """
    ended = "refuses it" if back else _LAST
    return [
        *_steps(there, 1, "request", names or {}, (ended, reason) if lost == "there" else None),
        *_steps(back, len(there) + 1, "reply", names or {}, (_LAST, reason) if lost == "back" else None),
    ]


def draw(found: Sequence[Step], *, linked: bool) -> Markup:
    """The steps as a list; if `linked`, to the page's element `hop-N`."""
    drawn = (_draw_step(step, linked=linked) for step in found)
    return element("ol", drawn, class_="steps", aria_label="what happened on the way")


def _steps(
    hops: Sequence[Hop], first: int, kind: str, names: Mapping[str, str], ended: tuple[str, str] | None
) -> Iterator[Step]:
    for index, hop in enumerate(hops):
        done = deeds(hop)
        if kind == "reply":
            # The reply goes through the same tunnels; only the undone translations are new.
            done = [deed for deed in done if "NAT" in deed]
        why = next((each.text for each in decisions(hop.by) if each.kind == "Cause"), "") if done else ""
        if not index:
            done.insert(0, f"{'sends' if kind == 'request' else 'answers'} {headers(hop, names)}")
        if index == len(hops) - 1 and ended is not None:
            done.append(ended[0])
            why = ended[1] or why
        elif index and index == len(hops) - 1:
            done.append(f"{'receives' if kind == 'request' else 'receives the answer'} {headers(hop, names)}")
        if done:
            yield Step(first + index, kind, f"{hop.owner} {hop.interface}", done, why)


def _draw_step(step: Step, *, linked: bool) -> Markup:
    href = f"#hop-{step.number}" if linked else None
    return element(
        "li",
        element("a" if linked else "span", step.number, href=href, class_="number", aria_label=f"hop {step.number}"),
        element("b", step.where),
        (element("span", each, class_="deed" if "NAT" in each or "VXLAN" in each else "said") for each in step.what),
        element("span", step.why, class_="why") if step.why else None,
        class_=step.kind,
    )


def headers(hop: Hop, names: Mapping[str, str] | None = None) -> str:
    """The ends of a packet: `10.244.1.2:40000 → 10.96.0.10:80`, with the names in `names` for addresses."""
    # ICMP has an identifier in the place of a port.
    sport, dport = (0, 0) if hop.protocol.startswith("icmp") else (hop.sport, hop.dport)
    known = names or {}
    return f"{end_text(known.get(hop.src, hop.src), sport)} → {end_text(known.get(hop.dst, hop.dst), dport)}"
