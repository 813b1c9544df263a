from typing import Any

import pytest

from celery_cascade.definition import Cascade, Step, check_inputs, from_text, read_cascade
from celery_cascade.errors import InputError


def cascade(inputs: str) -> Cascade:
    return read_cascade(from_text(f"cascade: order\nsteps: [{{id: a, task: t}}]\n{inputs}"))


ORDER = cascade(
    "inputs:\n  order_id: integer\n  email: {type: string, default: ''}\n  tags: {type: array, default: []}\n"
    "  lines: {type: array, items: {type: object, properties: {n: {type: integer}}}, default: []}\n"
    "  size: {enum: [s, m], default: s}\n  note: {type: [string, 'null'], default: null}\n"
)


def refusal(given: Any, of: Cascade = ORDER) -> str:
    with pytest.raises(InputError) as caught:
        check_inputs(of, given)
    return str(caught.value)


def test_defaults_are_filled_in_and_are_not_shared_between_sessions() -> None:
    one = check_inputs(ORDER, {"order_id": 7})
    assert one == {"order_id": 7, "email": "", "tags": [], "lines": [], "size": "s", "note": None}
    one["tags"].append("x")
    assert check_inputs(ORDER, {"order_id": 7})["tags"] == []


def test_given_inputs_win_over_defaults() -> None:
    assert check_inputs(ORDER, {"order_id": 1.0, "email": "a@b", "note": "n"})["email"] == "a@b"


def test_without_declared_inputs_everything_is_accepted() -> None:
    """R6: none given is an empty mapping."""
    assert check_inputs(cascade(""), {"x": [1]}) == {"x": [1]}
    assert check_inputs(cascade(""), {}) == {}
    assert check_inputs(Cascade(id="x", steps=(Step(id="a", task="t"),)), {"y": 1}) == {"y": 1}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "cascade 'order' needs the input 'order_id' (integer), and none was given"),
        ({"order_id": 1, "emial": "x"}, "has no input 'emial'; did you mean 'email'?"),
        ({"order_id": 1, "zzz": 1}, "has no input 'zzz'; declared are email, lines, "),
        ({"order_id": "7"}, "input 'order_id' must be integer, not string ('7')"),
        ({"order_id": True}, "input 'order_id' must be integer, not boolean (True)"),
        ({"order_id": None}, "input 'order_id' must be integer, not null"),
        ({"order_id": 1, "note": 3}, "input 'note' must be string or null, not integer (3)"),
        ({"order_id": 1, "lines": [{"n": 1}, {"n": "x"}]}, "input 'lines[1].n' must be integer, not string ('x')"),
        ({"order_id": 1, "size": "xl"}, "input 'size' must be one of ['s', 'm'], not 'xl'"),
        ({"order_id": "x" * 10_000}, "must be integer, not string ('xxx"),
        ({1: 2}, "the names of inputs must be text; 1 is not"),
        ([("order_id", 1)], "must be a mapping, not list"),
        (None, "must be a mapping, not null"),
    ],
)
def test_what_does_not_fit_names_input_path_and_types(given: Any, what: str) -> None:
    message = refusal(given)
    assert what in message
    assert len(message) < 300
    assert "order" in message or "names" in message


def test_a_cascade_that_takes_none_says_so() -> None:
    assert "has no input 'x'; it takes none" in refusal({"x": 1}, cascade("inputs: {}"))
