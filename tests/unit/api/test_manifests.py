import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import manifests
from netlab.api.manifests import load_documents
from netlab.errors import UsageError


def test_documents_folders_lists_and_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text("kind: A\n---\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n")
    (tmp_path / "2.json").write_text('{"kind": "D"}')
    (tmp_path / "notes.txt").write_text("not a manifest")
    assert [d["kind"] for d in load_documents([tmp_path])] == ["A", "B", "C", "D"]


def test_a_date_is_a_string_as_in_json(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("annotations: {since: 2026-01-02}")
    assert load_documents([file]) == [{"annotations": {"since": "2026-01-02"}}]


def _loaded(tmp_path: Path, text: str) -> list[Any]:
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    return load_documents([file])


VALUES = [
    ("a: [yes, On, FALSE, ~, null, '']", [True, True, False, None, None, ""]),
    ("a: [1, -2, 0x1f, 0o17, 017, 0b11, 1_000, +5, 0]", [1, -2, 31, 15, 15, 3, 1000, 5, 0]),
    ("a: [1.5, .5, 1e3, 3.0, -1.5e-3]", [1.5, 0.5, 1000, 3, -0.0015]),
    ("a: [22:22, 1.2.3, 2026-01-02, y, 1e, 0x, ._]", ["22:22", "1.2.3", "2026-01-02", "y", "1e", "0x", "._"]),
    ("a: ['1', \"yes\", !!str 1, ! 2]", ["1", "yes", "1", "2"]),
    ("a: [!!int '7', !!float 1.5, !!bool 'yes', !!null '']", [7, 1.5, True, None]),
    ("a: |\n  --- is text here\n  b\n", "--- is text here\nb\n"),
    ("a: [&x 1, *x, &y [2, *x], *y]", [1, 1, [2, 1], [2, 1]]),
    ('{"a": "\\ud83d\\ude00\\u00e9"}', "\U0001f600\u00e9"),
    ('{"a": [1e2, 1.25, -3]}', [100, 1.25, -3]),
    ("{a: [b, 'c'],}", ["b", "c"]),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_mean_what_they_mean_to_kubernetes(tmp_path: Path, text: str, value: Any) -> None:
    (document,) = _loaded(tmp_path, text)
    assert document["a"] == value
    assert [type(each) for each in document["a"]] == [type(each) for each in value]


BASE = "base: &a {x: 1, y: 1}\nother: &b {y: 2, z: 2}\n"

MERGES = [
    ("<<: *a", {"x": 1, "y": 1}),
    ("<<: [*a, *b]", {"x": 1, "y": 1, "z": 2}),
    ("<<: [*b, *a]", {"x": 1, "y": 2, "z": 2}),
    ("y: 3, <<: *a", {"x": 1, "y": 3}),
    ("<<: *a, y: 3", {"x": 1, "y": 3}),
    ("<<: *a, <<: *b", {"x": 1, "y": 1, "z": 2}),
    ("<<: {q: 1}", {"q": 1}),
    ("'<<': 1", {"<<": 1}),
]


@pytest.mark.parametrize(("text", "value"), MERGES)
def test_merge_keys(tmp_path: Path, text: str, value: Any) -> None:
    assert _loaded(tmp_path, f"{BASE}it: {{{text}}}")[0]["it"] == value


def test_what_two_aliases_stand_for_is_two_things(tmp_path: Path) -> None:
    (document,) = _loaded(tmp_path, "a: &a {x: [1]}\nb: *a\nc: {<<: *a}\n")
    document["b"]["x"].append(2)
    assert (document["a"], document["c"]) == ({"x": [1]}, {"x": [1]})


FILES = [
    ('{"kind": "A"}{"kind": "B"}\n\n {"kind": "C"}', "ABC"),
    ('kind: A\n---\n{"kind": "B"}\n{"kind": "C"}\n--- # yaml again\nkind: D\n...\n', "ABCD"),
    ('--- {"kind": "A"}\n---\n{kind: B}', "AB"),
    ("\ufeffkind: A\n---\n\ufeffkind: B\n\ufeff---\nkind: C\n", "ABC"),
    ('\ufeff{"kind": "A"}\n', "A"),
    ("%YAML 1.1\n---\nkind: A\n---\nkind: B", "AB"),
    ("kind: List\nitems:\n", ""),
    ("kind: List\nitems: []\n", ""),
    ("kind: List\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}, {kind: List, items: null}]", "AB"),
    ("", ""),
    ("# nothing\n---\n---\n~\n", ""),
]


@pytest.mark.parametrize(("text", "kinds"), FILES)
def test_files_as_people_write_them(tmp_path: Path, text: str, kinds: str) -> None:
    assert "".join(document["kind"] for document in _loaded(tmp_path, text)) == kinds


def test_the_items_of_a_list_of_one_kind_are_of_it(tmp_path: Path) -> None:
    text = "apiVersion: apps/v1\nkind: DeploymentList\nitems: [{metadata: {name: a}}, {kind: Pod, apiVersion: v1}]"
    assert _loaded(tmp_path, text) == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Pod"},
    ]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefghi")
)
DEEP_BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} {'[' * 90}*a{n - 1}{']' * 90}\n" for n in range(1, 40))

REFUSED = [
    (b"a: 1\na: 2\n", ":2: key 'a' stands twice"),
    (b"b: &b {x: 1}\na:\n  <<: *b\n  c: 1\n  c: 2\n", "a.yaml:5: a: key 'c' stands twice"),
    (b'{"a": 1, "a": 2}', "a.yaml:1: key 'a' stands twice"),
    (b'{"kind": "A"}\n{"kind": }', "a.yaml:2: it is not JSON"),
    (b"a: [1\n", "a.yaml:2"),
    (b"---\na: 1\n---\n\nb: [1\n", "a.yaml:6"),
    (b"- 1\n", "document 1 is not an object but list"),
    (b"text", "document 1 is not an object but str"),
    (b"a: 1\n\xff\xfe\xfa", "a.yaml:2: is not a text file in UTF-8"),
    (b"a: \xfc", "a.yaml:1: is not a text file in UTF-8"),
    (b"a: !!python/object:os.system {}\n", "a.yaml:1"),
    (b"kind: List\nitems: [1]", "document 1: items[0] is not an object but int"),
    (b"kind: List\nitems: x", "document 1: items is not a list but str"),
    (b"kind: List\nitems: [{kind: List, items: [~]}]", "document 1: items[0]: items[0] is not an object but NoneType"),
    (b"metadata: {labels: {on: x}}", "a.yaml:1: metadata.labels: the key on means true: put it in quotes"),
    (b"metadata:\n  labels:\n    yes: x", "a.yaml:3: metadata.labels: the key yes means true"),
    (b"metadata: {labels: {~: x}}", "metadata.labels: the key ~ means null"),
    (b"metadata:\n  labels:\n    ?\n    : x", "metadata.labels: the key without a text means null"),
    (b"a: {1.5: x}", "a: the key 1.5 means 1.5"),
    (b"a: {0x10: x}", "a: the key 0x10 means 16"),
    (b"spec: {a: [1, .nan]}", "spec.a[1]: .nan is no number in JSON"),
    (b"a: -.Inf", "a: -.Inf is no number in JSON"),
    (b"a: 1e999", "a: 1e999 is no number in JSON"),
    (b'{"a": NaN}', "a.yaml:1: NaN is no number in JSON"),
    (b'{"a": {"b": ["\\ud83d"]}}', "a.b[0]: half of a surrogate pair"),
    (b'{"a": {"\\ud83d": 1}}', "a: half of a surrogate pair"),
    (b"a: " + b"9" * 5000, "a: the number 999999999999999999999999... has more than 64 bits"),
    (b'{"a": ' + b"9" * 5000 + b"}", "has more than 64 bits"),
    (b"a: 18446744073709551616", "has more than 64 bits"),
    (b"a: !!binary aGk=", "a: the tag !!binary means nothing in JSON"),
    (b"a: !!timestamp 9999-99-99", "a: the tag !!timestamp"),
    (b"a: !!set {x}", "a: the tag !!set"),
    (b"a: !!int abc", "a: 'abc' is not a valid !!int"),
    (b"a: !!bool 7", "a: '7' is not a valid !!bool"),
    (b"a: &a [*a]", "a[0]: the alias *a stands within what it names"),
    (b"a: &a {b: {c: *a}}", "a.b.c: the alias *a stands within what it names"),
    (b"a: *nowhere", "a: there is no anchor &nowhere before"),
    (b"a: &x 1\n---\nb: *x", "a.yaml:3: b: there is no anchor &x"),
    (b"a: {<<: 1}", "a.<<: << merges a mapping"),
    (b"? [1]\n: 2", "cannot be a key"),
    (b"[" * 100_000, "nested more than 200 deep"),
    (b'{"a":' * 100_000, "nested more than 200 deep"),
    (b"- " * 5_000, "nested more than 200 deep"),
    (BOMB.encode(), "its aliases stand for more than 4 MiB"),
    (DEEP_BOMB.encode(), "nested more than 200 deep"),
    (b"a: \x00", "it is not YAML"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_manifest_is_refused_by_file_and_line(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(text)
    with pytest.raises(UsageError) as refused:
        load_documents([file])
    assert message in str(refused.value)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \*\.yaml"):
        load_documents([tmp_path])
    with pytest.raises(UsageError, match="No such file"):
        load_documents([tmp_path / "absent.yaml"])


def test_no_more_is_read_than_a_manifest_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LARGEST", 10)
    (tmp_path / "exact.yaml").write_bytes(b"kind: \xc3\xa4#a")
    assert load_documents([tmp_path / "exact.yaml"]) == [{"kind": "\u00e4#a"}]
    (tmp_path / "more.yaml").write_bytes(b"kind: \xc3\xa4#a\n")
    with pytest.raises(UsageError, match="larger than"):
        load_documents([tmp_path / "more.yaml"])
    with pytest.raises(UsageError, match="larger than"):
        load_documents([Path("/dev/zero")])


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*<!|>\"'\n \\u0019,.#%~?", max_size=200).map(str.encode))
def test_no_bytes_are_an_internal_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(UsageError):
            msgspec.json.encode(load_documents([Path(file.name)]))
