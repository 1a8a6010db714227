"""The few steps of a way that explain it, beside its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netlab.report.decisions import decisions, deeds
from netlab.report.markup import Markup, element
from netlab.trace.model import Hop


class Step(NamedTuple):
    """A hop where something happened: its number in the picture, what, and why."""

    number: int
    kind: str
    where: str
    what: list[str]
    why: str = ""


def steps(there: Sequence[Hop], back: Sequence[Hop], *, lost: str = "", reason: str = "") -> list[Step]:
    """Where the packet begins, where it is changed, and where it ends; of the reply also what is changed back.

    `lost` says which of the ways ended too early (`there` or `back`), `reason` why.
    """
    return [
        *_steps(there, 1, "request", reason if lost == "there" else None),
        *_steps(back, len(there) + 1, "reply", reason if lost == "back" else None),
    ]


def draw(found: Sequence[Step], *, linked: bool) -> Markup:
    """The steps as a list; `linked` ones lead to the page's element `hop-N`."""
    drawn = (_draw_step(step, linked=linked) for step in found)
    return element("ol", drawn, class_="steps", aria_label="what happened on the way")


def _steps(hops: Sequence[Hop], first: int, kind: str, lost: str | None) -> Iterator[Step]:
    for index, hop in enumerate(hops):
        done = deeds(hop)
        if kind == "reply":
            # It goes through the same tunnels; what is new is that translations are undone.
            done = [deed for deed in done if "NAT" in deed]
        why = next((each.text for each in decisions(hop.by) if each.kind == "Cause"), "") if done else ""
        if not index:
            done.insert(0, f"{'sends' if kind == 'request' else 'answers'} {headers(hop)}")
        if index == len(hops) - 1 and (index or lost is not None):
            done.append(_arrival(hop, kind) if lost is None else "sees the packet last")
            why = lost or why
        if done:
            yield Step(first + index, kind, f"{hop.owner} {hop.interface}", done, why)


def _arrival(hop: Hop, kind: str) -> str:
    return f"{'receives' if kind == 'request' else 'receives the answer'} {headers(hop)}"


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


def headers(hop: Hop) -> str:
    """The ends of a packet: `10.244.1.2:40000 → 10.96.0.10:80`."""
    # Where a port would be, ICMP has an identifier.
    sport, dport = (0, 0) if hop.protocol.startswith("icmp") else (hop.sport, hop.dport)
    return f"{end(hop.src, sport)} → {end(hop.dst, dport)}"


def end(address: str, port: int) -> str:
    """An address with its port, if it has one."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
