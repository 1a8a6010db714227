"""Names of images."""

from __future__ import annotations

import pytest

from netlab.oci import reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("cilium/cilium:v1", "docker.io/cilium/cilium:v1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("[::1]:5000/x:2", "[::1]:5000/x:2"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:1@{DIGEST}", f"quay.io/a@{DIGEST}"),
    ],
)
def test_names_are_written_in_full(short: str, full: str) -> None:
    assert reference.full(short) == full
    assert reference.full(full) == full


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a b", "a:", "a:b:c", "../a", "a//b", "/a", "a/", "a@sha256:1", "a@", "-a", "a" * 300, "a\n", "ä"],
)
def test_other_texts_are_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="is not the name of an image"):
        reference.full(text)


@pytest.mark.parametrize("full", ["localhost:5000/x:1", f"localhost:5000/x@{DIGEST}"])
def test_the_repository_of_a_name(full: str) -> None:
    assert reference.repository(full) == "localhost:5000/x"
