"""JSON as the plugins read and write it, against the json package."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni import codec

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_what_json_reads(value: object) -> None:
    assert json.loads(codec.dumps(value)) == value


@given(values)
def test_what_json_writes_is_read(value: object) -> None:
    assert codec.loads(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="surrogatepass")) == value


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(st.binary())
def test_anything_else_is_a_value_error(text: bytes) -> None:
    try:
        expected = json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        with pytest.raises(ValueError, match=r"."):
            codec.loads(text)
    else:
        assert repr(codec.loads(text)) == repr(expected)


@pytest.mark.parametrize("text", [b"", b" ", b"{", b'{"a":}', b"{} {}", b"NaN", b"[" * 100_000, b"\xff"])
def test_malformed(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.loads(text)
