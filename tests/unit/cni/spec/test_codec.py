"""JSON as the plugins read and write it, against the json package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.spec import codec

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{not json", "Expecting property name enclosed in double quotes: line 1 column 2"),
        (b'{"a":1,}', "Expecting property name enclosed in double quotes: line 1 column 8"),
        (b'{"a"', "Expecting ':' delimiter: line 1 column 5"),
        (b"{'a':1}", "Expecting property name enclosed in double quotes: line 1 column 2"),
        (b'{"a":1 "b":2}', "Expecting ',' delimiter: line 1 column 8"),
        (b'"abc', "Unterminated string starting at: line 1 column 1"),
        (b'{"a":"\\x"}', "Invalid \\escape: line 1 column 7"),
        (b'{"a":"\\u12"}', "Invalid \\uXXXX escape: line 1 column 8"),
        (b'{"a":"\n"}', "Invalid control character at: line 1 column 7"),
        (b"[1", "Expecting ',' delimiter: line 1 column 3"),
        (b"[1,", "no value at character 3"),
        (b'{"a":-}', "no value at character 5"),
    ],
)
def test_it_says_what_is_wrong_where_although_nobody_imported_json(text: bytes, said: str) -> None:
    program = """if True:
        import sys
        sys.path.append(sys.argv[1])
        from netlab.cni.spec import codec
        assert "json" not in sys.modules
        for _ in range(2):
            try:
                codec.loads(bytes.fromhex(sys.argv[2]))
            except ValueError as error:
                print(error)
    """
    root = str(Path(codec.__file__).parents[3])
    argv = [sys.executable, "-IS", "-c", program, root, text.hex()]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(said) for line in lines), lines
