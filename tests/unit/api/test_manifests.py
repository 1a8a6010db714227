from pathlib import Path

import pytest

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


REFUSED = [
    (b"a: 1\na: 2\n", ":2: key 'a' stands twice"),
    (b"a: [1\n", "a.yaml:2"),
    (b"- 1\n", "document 1 is not an object but list"),
    (b"text", "document 1 is not an object but str"),
    (b"\xff\xfe\xfa", "is not a text file in UTF-8"),
    (b"a: !!python/object:os.system {}\n", "a.yaml:1"),
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
