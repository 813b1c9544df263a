"""Where a definition is wrong: file, line, column, and the line with a caret under the place."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from celery_cascade.definition import from_bytes, from_mapping, from_text, read_cascade, read_file, read_with_warnings
from celery_cascade.definition.places import Text
from celery_cascade.errors import DefinitionError


def said(error: DefinitionError) -> str:
    """Without the next command, which tests of all errors look at."""
    assert str(error).startswith(error.message)
    assert error.excerpt in str(error)
    return f"{error.message}\n{error.excerpt}".rstrip("\n")


def shown(line: str, at: str) -> tuple[str, str]:
    """The excerpt for an error at the first `at` of a line: the line, and the caret's."""
    error = Text("x.yaml", f"first\n{line}\nlast").error(6 + line.index(at), "wrong")
    assert (error.file, error.line, error.column) == ("x.yaml", 2, line.index(at) + 1)
    above, below = error.excerpt.split("\n")
    return above, below


@pytest.mark.parametrize(
    ("line", "above", "caret"),
    [
        ("  task: @", "  task: @", "        ^"),
        ("\ttask:\t@", "\ttask:\t@", "\t     \t^"),
        ("寸法: @", "寸法: @", "      ^"),
        ("ｆｕｌｌ @", "ｆｕｌｌ @", "         ^"),
        ("🫖 @", "🫖 @", "   ^"),
        ("e\u0301te\u0301: @", "e\u0301te\u0301: @", "     ^"),
        ("❤\ufe0f: @", "❤\ufe0f: @", "   ^"),
        ("a\u200db @", "a·b @", "    ^"),
        ("\x1b[31m @", "·[31m @", "      ^"),
        ("a\u2028b @", "a·b @", "    ^"),
        ("x @   ", "x @", "  ^"),
    ],
)
def test_the_caret_stands_under_the_place_as_a_terminal_shows_it(line: str, above: str, caret: str) -> None:
    """R150: tabs stay tabs, wide characters take two columns, marks none, control characters are a dot."""
    assert shown(line, "@") == (above, caret)


def test_a_long_line_is_cut_on_both_sides() -> None:
    above, below = shown("b" * 500 + "@" + "a" * 500, "@")
    assert above == "…" + "b" * 80 + "@" + "a" * 39 + "…"
    assert below == " " * 81 + "^"
    assert shown("b" * 80 + "@", "@")[0] == "b" * 80 + "@"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind_count_as_one(end: str) -> None:
    text = f"cascade: x{end}steps:{end}  - {{id: a, taks: t}}{end}"
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_text(text))
    assert said(caught.value) == (
        "<inline>:3:13: step 'a': unknown key 'taks'; did you mean 'task'?\n  - {id: a, taks: t}\n            ^"
    )


def test_a_byte_order_mark_moves_nothing() -> None:
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_bytes(b"\xef\xbb\xbfcascad: x\n"))
    assert (caught.value.line, caught.value.column) == (1, 1)


def test_a_json_file_has_places_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o.json").write_text(
        '{\n\t"cascade": "x",\n\t"steps": [{"id": "a", "task": "t", "timeout": "5min"}]\n}'
    )
    with pytest.raises(DefinitionError) as caught:
        read_cascade(read_file("o.json"))
    assert str(caught.value).startswith("o.json:3:48: step 'a': timeout: 5min is not a duration")
    line, caret = caught.value.excerpt.split("\n")
    assert line[len(caret) - 1 :].startswith('"5min"')
    assert (caught.value.file, caught.value.line, caught.value.column) == ("o.json", 3, 48)
    assert caught.value.hint.endswith("cascade validate o.json")


def test_a_mapping_shows_the_line_that_would_be_stored() -> None:
    """R4: what is stored is the YAML of the mapping, so that is where the place is."""
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_mapping({"cascade": "x", "steps": [{"id": "a", "task": "t", "retry": {"backoff": "expo"}}]}))
    assert said(caught.value) == (
        "<inline>:6:14: step 'a': retry.backoff must be one of none, linear, exponential, not 'expo'; "
        "did you mean 'exponential'?\n    backoff: expo\n             ^"
    )


def test_nothing_is_shown_where_there_is_nothing() -> None:
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_text("\n\n"))
    assert said(caught.value) == "<inline>:1:1: the file is empty; it must hold a cascade"


def test_a_file_s_name_does_not_reach_the_terminal_as_a_command(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m.yaml"
    path.write_text("x")
    with pytest.raises(DefinitionError) as caught:
        read_cascade(read_file(path))
    assert "\x1b" not in str(caught.value)


def test_bytes_that_are_no_utf_8_have_a_place() -> None:
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_bytes(b"cascade: x\nsteps: \xff\n"))
    assert (caught.value.line, caught.value.column) == (2, 8)


def test_an_error_keeps_its_place_between_processes() -> None:
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_text("x"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.__dict__) == (str(caught.value), caught.value.__dict__)


def test_an_error_without_a_place_has_none(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_file(tmp_path / "nothing.yaml")
    assert (caught.value.file, caught.value.line, caught.value.excerpt) == (None, None, "")


def test_a_warning_has_its_place_as_well() -> None:
    _, (warning,) = read_with_warnings(from_text("cascade: x\nsteps: [{id: a, task: t, with: [no]}]"))
    assert (warning.line, warning.column) == (2, 33)
    assert warning.excerpt.endswith("\n" + " " * 32 + "^")


WORDS = [
    ("cascade: x\nstpes: []", "'steps'"),
    ("cascade: x\nsteps: [{id: a, task: t, Needs: []}]", "'needs'"),
    ("cascade: x\nsteps: [{id: a, task: t, tim: 5}]", "'timeout'"),
    ("cascade: x\nsteps: [{id: a, task: t, retry: {max: 5}}]", "known are"),
    ("cascade: x\nsteps: [{id: a, task: t, retry: {attempts: 5}}]", "'max_attempts'"),
    ("cascade: x\nsteps: [{id: a, task: t, retry: {backoff: expo}}]", "'exponential'"),
    ("cascade: x\nsteps: [{id: a, task: t, retry: {backoff: Linear}}]", "'linear'"),
    ("cascade: x\nsteps: [{id: charge, task: t}, {id: b, task: t, needs: [chagre]}]", "'charge'"),
    ("cascade: x\nsteps: [{id: charge, task: t}, {id: b, task: t, with: ['{{ outputs.Charge }}']}]", "'charge'"),
    ("cascade: x\ninputs: {order: str}\nsteps: [{id: a, task: t}]", "'string'"),
    ("cascade: x\ninputs: {order: string}\nsteps: [{id: a, task: t, with: ['{{ inputs.ordr }}']}]", "'order'"),
    ("cascade: x\nsteps: [{id: a, task: t, with: ['{{ inputs.a | lenght }}']}]", "'length'"),
    ("cascade: x\nsteps: [{id: a, task: t, with: ['{{ input.a }}']}]", "inputs"),
]


@pytest.mark.parametrize(("text", "right"), WORDS)
def test_a_wrong_word_gets_the_nearest_right_one(text: str, right: str) -> None:
    """R150: keys, values of enumerations, ids, inputs, filters, names."""
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_text(text))
    assert right in caught.value.message.partition(": ")[2]
