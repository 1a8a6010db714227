"""The columns of what is measured: those of metrics-server."""

from __future__ import annotations

from netlab.api.printers import NAME, Cell, Column, JSONObject, Printer, name
from netlab.api.quantities import parse

_USED = (
    Column("CPU", "Processor time used, in thousandths of a processor."),
    Column("Memory", "Working set, in bytes."),
    Column("Window", "The time over which it was measured."),
)


def _node(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), *_cells([obj["usage"]]), obj["window"]]


def _pod(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), *_cells([each["usage"] for each in obj["containers"]]), obj["window"]]


def _cells(usages: list[dict[str, str]]) -> list[Cell]:
    cpu = sum(parse(each["cpu"]) for each in usages)
    memory = sum(parse(each["memory"]) for each in usages)
    return [f"{round(cpu * 1000)}m", f"{round(memory / 1024)}Ki"]


NODE_METRICS = Printer((NAME, *_USED), _node)
POD_METRICS = Printer((NAME, *_USED), _pod)
