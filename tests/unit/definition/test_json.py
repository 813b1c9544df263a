import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.definition import from_text, read_cascade
from celery_cascade.definition.document import parse
from celery_cascade.errors import DefinitionError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


def load(text: str) -> Any:
    return parse(from_text(text, source_format="json")).root.plain()


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        load(text)
    return str(caught.value)


@given(values, st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_json_reads_as_the_standard_library_reads_it(value: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert repr(load(text)) == repr(json.loads(text))


@given(st.text('[]{}",:0123456789.eE+-truefalsn \n\\ué', max_size=40))
def test_json_accepts_only_what_the_standard_library_accepts(text: str) -> None:
    try:
        found = load(text)
    except DefinitionError:
        return
    assert repr(found) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1:1: the file is empty"),
        ('{"a": 1,\n\t"a": 2}', "2:2: the key 'a' appears twice, first in line 1"),
        ('{"a": [1,\n 2,]}', "2:4: expected a JSON value, found ']'; take the comma before it out"),
        ('{"a": 1,}', '1:9: expected a key in "double quotes"; take the comma before it out'),
        ('{a: 1}', '1:2: expected a key in "double quotes"'),
        ("{'a': 1}", '1:2: expected a key in "double quotes"'),
        ('{"a" 1}', "1:6: expected ':' after the key 'a'"),
        ('{"a": 1 "b": 2}', "1:9: expected ',' or '}'"),
        ("[1 2]", "1:4: expected ',' or ']'"),
        ('{"a": 1} x', "1:10: more text after the end"),
        ('{"a": // no\n1}', "1:7: JSON has no comments"),
        ('{"a": NaN}', "1:7: expected a JSON value, found 'NaN'"),
        ('{"a": -Infinity}', "1:7: expected a JSON value"),
        ('{"a": 01}', "1:7: expected a JSON value, found '01'"),
        ('{"a": 1e999}', "larger than any number"),
        ('{"a": True}', "found 'True'"),
        ('{"a": "\n"}', "not a JSON string"),
        ('{"a": "\\x"}', "not a JSON string"),
        ('{"a": "\\ud800"}', "lone surrogate"),
        ('{"a": ', "the JSON ends here"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("9" * 500, "more than 400 characters"),
    ],
)  # fmt: skip
def test_text_that_is_no_json_names_line_column_and_cure(text: str, what: str) -> None:
    assert what in refusal(text)


def test_json_means_json_and_not_yaml() -> None:
    """Words that YAML 1.1 reads otherwise are refused as values, and text stays text."""
    assert "expected a JSON value" in refusal('{"a": no}')
    assert load('{"a": "no", "b": "22:30", "n": 1e3, "t": "2001-01-01"}') == {
        "a": "no", "b": "22:30", "n": 1000.0, "t": "2001-01-01",
    }  # fmt: skip


def test_a_cascade_in_json_reads_as_in_yaml_with_tabs_bom_and_crlf() -> None:
    text = '\ufeff{\r\n\t"cascade": "x",\r\n\t"steps": [{"id": "a", "task": "t", "with": {"n": "{{ inputs.n }}"}}]\r\n}'
    assert read_cascade(from_text(text, source_format="json")).steps[0].arguments == {"n": "{{ inputs.n }}"}


def test_errors_of_meaning_have_their_place_in_json_too() -> None:
    text = '{\n  "cascade": "x",\n  "steps": [\n    {"id": "a", "tsk": "t"}\n  ]\n}'
    with pytest.raises(DefinitionError, match=r"<inline>:4:17: step 'a': unknown key 'tsk'; did you mean 'task'\?"):
        read_cascade(from_text(text, source_format="json"))
