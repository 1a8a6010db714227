from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.apply import merge_patch

Json = dict[str, Any]

CASES: list[tuple[str, Json, Json, Json, Json]] = [
    ("nothing changed", {"a": 1}, {"a": 1}, {"a": 1, "server": 2}, {}),
    ("a value changed", {"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
    ("what the manifest no longer says is removed", {"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1}, {"b": None}),
    ("what the server has beyond it stays", {}, {"a": 1}, {"a": 1, "b": 1}, {}),
    ("what was removed already needs no removing", {"b": 1}, {}, {}, {}),
    (
        "objects are merged",
        {"m": {"x": 1, "y": 1}},
        {"m": {"x": 2}},
        {"m": {"x": 1, "y": 1, "z": 1}},
        {"m": {"x": 2, "y": None}},
    ),
    ("lists are replaced", {"l": [1]}, {"l": [1, 2]}, {"l": [1]}, {"l": [1, 2]}),
    ("null is as absent", {"a": None}, {"a": None, "b": None}, {"b": 1}, {"b": None}),
    ("a value becomes an object", {"m": 1}, {"m": {"x": 1}}, {"m": 1}, {"m": {"x": 1}}),
]


@pytest.mark.parametrize(("last", "wanted", "live", "patch"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_three_way_merge(last: Json, wanted: Json, live: Json, patch: Json) -> None:
    assert merge_patch(last, wanted, live) == patch


def _patched(live: Json, patch: Json) -> Json:
    """RFC 7386, section 2."""
    result = dict(live)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = _patched(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


_values = st.recursive(st.integers(0, 3), lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3))
_objects = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)


def _says(whole: Json, part: Json) -> bool:
    return all(
        key in whole
        and (
            _says(whole[key], value)
            if isinstance(value, dict) and isinstance(whole[key], dict)
            else whole[key] == value
        )
        for key, value in part.items()
    )


@given(_objects, _objects, _objects)
def test_after_the_patch_the_object_says_what_the_manifest_says(last: Json, wanted: Json, live: Json) -> None:
    after = _patched(live, merge_patch(last, wanted, live))
    assert _says(after, wanted)
    assert not [key for key in last if key not in wanted and key in after]
    assert merge_patch(last, wanted, after) == {}
