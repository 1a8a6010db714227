from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import selectors
from netlab.api.meta_types import LabelSelector, LabelSelectorRequirement
from netlab.errors import UsageError

WEB = {"app": "web", "tier": "front", "empty": "", "n": "7"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        (" ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("absent!=x", True),
        ("app!=web", False),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!app", False),
        ("app in (db, web)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("absent notin (db)", True),
        ("app notin (web,db)", False),
        ("empty=", True),
        ("empty in ()", True),
        ("app=,tier=front", False),
        ("n>6", True),
        ("n>7", False),
        ("n<8", True),
        ("app>1", False),
        ("absent<1", False),
        ("in in (x)", False),
        ("app.kubernetes.io/name!=x", True),
    ],
)
def test_text_selects_as_kubectl_does(text: str, selected: bool) -> None:
    assert selectors.parse(text).matches(WEB) is selected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("app=web,", "found its end, expected a label's key"),
        ("=web", "found '=', expected a label's key"),
        ("app web", "found 'web', expected one of"),
        ("app in web", "found 'web', expected '('"),
        ("app in (web", "found its end, expected ')'"),
        ("app=web tier=front", "found 'tier', expected ','"),
        ("-bad-", '"-bad-" is not a valid label key'),
        ("app=-x", '"-x" is not a valid label value'),
        ("app>x", '"x" is not an integer'),
        ("UPPER/x=1", "not a valid label key"),
    ],
)
def test_unreadable_text_is_refused_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        selectors.parse(text)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "expressions", "selected"),
    [
        ({}, [], True),
        ({"app": "web"}, [], True),
        ({"app": "web", "tier": "back"}, [], False),
        ({"app": "web"}, [("tier", "In", ["front"])], True),
        ({}, [("tier", "NotIn", ["front"])], False),
        ({}, [("tier", "Exists", [])], True),
        ({}, [("tier", "DoesNotExist", [])], False),
    ],
)
def test_label_selector_object(
    labels: dict[str, str], expressions: list[tuple[str, str, list[str]]], selected: bool
) -> None:
    requirements = [LabelSelectorRequirement(key=k, operator=o, values=v) for k, o, v in expressions]
    selector = selectors.from_label_selector(LabelSelector(matchLabels=labels, matchExpressions=requirements))
    assert selector.matches(WEB) is selected


@pytest.mark.parametrize(("operator", "values"), [("Gt", ["1"]), ("In", []), ("Exists", ["x"])])
def test_label_selector_object_refused(operator: str, values: list[str]) -> None:
    requirement = LabelSelectorRequirement(key="a", operator=operator, values=values)
    with pytest.raises(UsageError):
        selectors.from_label_selector(LabelSelector(matchExpressions=[requirement]))


_WORDS = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
_LABELS = st.dictionaries(_WORDS, _WORDS, max_size=3)
_REQUIREMENTS = st.one_of(
    st.builds(selectors.Requirement, _WORDS, st.sampled_from(["In", "NotIn"]), st.frozensets(_WORDS, min_size=1)),
    st.builds(selectors.Requirement, _WORDS, st.sampled_from(["Exists", "DoesNotExist"])),
    st.builds(
        selectors.Requirement,
        _WORDS,
        st.sampled_from(["Gt", "Lt"]),
        st.integers(0, 99).map(lambda n: frozenset((str(n),))),
    ),
)


@given(st.lists(_REQUIREMENTS, max_size=4), _LABELS)
def test_a_selector_survives_being_written_and_read(
    requirements: list[selectors.Requirement], labels: dict[str, str]
) -> None:
    selector = selectors.Selector(tuple(requirements))
    assert selectors.parse(str(selector)) == selector
    assert selectors.parse(str(selector)).matches(labels) is selector.matches(labels)
    assert selectors.from_labels(labels).matches(labels)
