"""The style sheets: colours that people can tell apart."""

import itertools
import re

import pytest

from netlab.report import styles

TEXTS = ["ink", "soft", "request", "reply", "change", "tunnel", "good", "bad"]
READABLE = 4.5
"""WCAG 2.2, 1.4.3: the least contrast of text."""


def colours(scheme: str) -> dict[str, str]:
    """The named colours of a scheme: dark changes those of light."""
    light, dark = re.findall(r":root \{(.*?)\}", styles.pages(), re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_every_ground(scheme: str) -> None:
    found = colours(scheme)
    grounds = ["page", "card", "sunk", *(name for name in found if name.endswith("-wash"))]
    pairs = [*itertools.product(TEXTS, grounds), ("card", "request"), ("card", "reply")]
    poor = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs}
    assert {pair: value for pair, value in poor.items() if value < READABLE} == {}


def test_every_colour_has_a_name_that_is_defined() -> None:
    sheet = styles.pages()
    assert set(re.findall(r"var\(--([\w-]+)\)", sheet)) <= set(re.findall(r"--([\w-]+):", sheet))
    rules = re.sub(r":root \{.*?\}", "", sheet, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == []
