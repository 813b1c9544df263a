"""Deltas: what changed between two JSON values, small, and able to be made again wherever it is applied."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celery_cascade.deltas import apply, context_at, diff, fold, written

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.sampled_from(["a", "b", "c", "__type__", "__value__"]) | st.text(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)
contexts = st.dictionaries(keys, values, max_size=4)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Any, Any]:
    """A value, and the same with a change somewhere inside: two drawn apart have little in common."""
    old = draw(contexts)
    new = copy.deepcopy(old)
    place: Any = new
    while isinstance(place, dict) and place and draw(st.booleans()):
        inner = place[draw(st.sampled_from(sorted(place)))]
        if not isinstance(inner, (dict, list)):
            break
        place = inner
    if isinstance(place, list):
        place.append(draw(values))
    else:
        place[draw(keys)] = draw(values)
        if draw(st.booleans()):
            place.pop(draw(st.sampled_from(sorted(place))))
    return old, new


def same(one: Any, other: Any) -> bool:
    """As JSON: in Python 1, 1.0 and True are equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(st.tuples(values, values) | changed())
def test_a_delta_makes_the_new_value_of_the_old_one(pair: tuple[Any, Any]) -> None:
    """R139: whatever the two are; and it can be stored."""
    old, new = pair
    before = copy.deepcopy(old)
    delta = diff(old, new)
    assert same(apply(old, json.loads(written(delta))), new)
    assert same(old, before), "what was given stays as it is"


@settings(max_examples=30, deadline=None)
@given(values)
def test_what_is_the_same_has_no_delta(value: Any) -> None:
    assert diff(value, copy.deepcopy(value)) == []


@settings(max_examples=50, deadline=None)
@given(values, st.tuples(contexts, contexts) | changed())
def test_a_delta_is_applied_to_anything(value: Any, pair: tuple[Any, Any]) -> None:
    """A fork leaves deltas out, so parents may be missing or be something else."""
    apply(value, diff(*pair))


@settings(max_examples=50, deadline=None)
@given(contexts, st.lists(contexts, max_size=5))
@example({"a": 1, "__type__": 1, "__value__": 1}, [{"__value__": 1, "__type__": 1}, {}])
def test_the_context_at_a_version_is_what_it_was_then(first: Any, later: list[Any]) -> None:
    """R139, R23: for every version, not for the last one only."""
    states = [{}, first, *later]
    rows = [
        {"version": 10 * number, "delta": written(diff(old, new))}
        for number, (old, new) in enumerate(itertools.pairwise(states), 1)
    ]
    for number, state in enumerate(states):
        assert same(context_at(rows, 10 * number), state)
        assert same(context_at(rows, 10 * number + 9), state)
    assert same(context_at(rows), states[-1])


def test_an_append_to_a_large_list_is_a_small_delta() -> None:
    """R42: 1.5 MB."""
    old = {"a": {"b": [{"n": n, "text": "x" * 100} for n in range(13_000)], "c": {"d": 1}}}
    assert len(json.dumps(old)) > 1_500_000
    new = copy.deepcopy(old)
    new["a"]["b"].append(1)
    assert diff(old, new) == [["add", ["a", "b"], [1]]]


@pytest.mark.parametrize(
    ("old", "new", "delta"),
    [
        ({"n": 1}, {"n": True}, [["set", ["n"], True]]),
        ({"n": 1}, {"n": 1.0}, [["set", ["n"], 1.0]]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, [["del", ["a", "b"]]]),
        ({"l": [1, 2]}, {"l": [1]}, [["set", ["l"], [1]]]),
        ({"l": [1, 2]}, {"l": [0, 1, 2]}, [["set", ["l"], [0, 1, 2]]]),
        ({}, {"l": [1], "n": 1}, [["add", ["l"], [1]], ["set", ["n"], 1]]),
        ({"a": 1}, {"a": {"b": 1}}, [["set", ["a"], {"b": 1}]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        (
            {"at": {"__type__": "date", "__value__": "2030-01-01"}},
            {"at": {"__type__": "date", "__value__": "2030-01-02"}},
            [["set", ["at"], {"__type__": "date", "__value__": "2030-01-02"}]],
        ),
    ],
)
def test_what_a_delta_says(old: Any, new: Any, delta: Any) -> None:
    assert diff(old, new) == delta


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "both"),
    [
        ({}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"x": {}}, {"x": {"a": 1}}, {"x": {"b": 2}}, {"x": {"a": 1, "b": 2}}),
        ({}, {"x": {"a": 1}}, {"x": {"b": 2}}, {"x": {"a": 1, "b": 2}}),
        ({}, {"seen": ["a"]}, {"seen": ["b"]}, {"seen": ["a", "b"]}),
        ({"seen": []}, {"seen": ["a"]}, {"seen": ["b"]}, {"seen": ["a", "b"]}),
        ({"n": 0}, {"n": 1}, {"n": 2}, {"n": 2}),
        ({"n": 0, "m": 0}, {"m": 0}, {"n": 0, "m": 1}, {"m": 1}),
    ],
)
def test_two_who_read_the_same_and_change_different_places_both_count(
    base: Any, mine: Any, theirs: Any, both: Any
) -> None:
    """R139: on the same place the later one wins."""
    assert fold([written(diff(base, mine)), written(diff(base, theirs))], base) == both


@pytest.mark.parametrize(
    ("value", "delta", "result"),
    [
        ({}, [["set", ["a", "b"], 1]], {"a": {"b": 1}}),
        ({"a": 7}, [["set", ["a", "b"], 1]], {"a": {"b": 1}}),
        ({"a": 7}, [["del", ["a", "b"]]], {"a": 7}),
        ({}, [["del", ["a", "b"]]], {}),
        ({}, [["add", ["a"], [1]]], {"a": [1]}),
        ({"a": 7}, [["add", ["a"], [1]]], {"a": [1]}),
        (None, [["add", ["a"], {"b": 1}]], {"a": {"b": 1}}),
        ([1], [["set", ["a"], 1]], {"a": 1}),
    ],
)
def test_what_is_not_there_is_made_or_stays_away(value: Any, delta: Any, result: Any) -> None:
    assert apply(value, delta) == result
