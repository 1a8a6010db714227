"""Curves as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence


def plot(lines: Sequence[tuple[str, str, list[tuple[float, float]]]], along: str, unit: str = " s") -> str:
    """Curves, both axes logarithmic, as SVG: name, colour and points of each.

    `along` says what x is, and `unit` follows the numbers of y.
    """
    width, height, left, bottom = 640, 400, 70, 50
    xs = [x for _, _, points in lines for x, _ in points]
    ys = [y for _, _, points in lines for _, y in points]
    decades_x = (math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs))))
    decades_y = (math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))))

    def place(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - decades_x[0]) / (decades_x[1] - decades_x[0])
        up = (math.log10(y) - decades_y[0]) / (decades_y[1] - decades_y[0])
        return left + right * (width - left - 160), height - bottom - up * (height - bottom - 20)

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for decade in range(decades_x[0], decades_x[1] + 1):
        x, y = place(10**decade, 10 ** decades_y[0])
        top = place(10**decade, 10 ** decades_y[1])[1]
        drawn.append(f'<path d="M{x:.1f} {y:.1f}V{top:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{10**decade:,}</text>')
    for decade in range(decades_y[0], decades_y[1] + 1):
        x, y = place(10 ** decades_x[0], 10**decade)
        right = place(10 ** decades_x[1], 10**decade)[0]
        drawn.append(f'<path d="M{x:.1f} {y:.1f}H{right:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}{unit}</text>')
    taken: list[float] = []
    for name, colour, points in sorted(lines, key=lambda line: -max(line[2])[1]):
        placed = [place(*point) for point in sorted(points)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        drawn.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        at = max([placed[-1][1] + 4, *(y + 14 for y in taken if abs(y - placed[-1][1] - 4) < 14)])
        taken.append(at)
        drawn.append(f'<text x="{placed[-1][0] + 8:.1f}" y="{at:.1f}" fill="{colour}">{name}</text>')
    drawn.append(f'<text x="{left + 200}" y="{height - 10}" text-anchor="middle">{along}</text></svg>')
    return "\n".join(drawn) + "\n"
