"""Two JSON values, path by path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.sessions.value_diff import changes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"n": 1}, {"n": 1}, []),
        ({"n": 1}, {"n": 2}, [{"path": "v.n", "a": 1, "b": 2}]),
        ({"n": 1}, {}, [{"path": "v.n", "a": 1}]),
        ({}, {"n": None}, [{"path": "v.n", "b": None}]),
        ({"l": [3, 5]}, {"l": [4, 5, 6]}, [{"path": "v.l[0]", "a": 3, "b": 4}, {"path": "v.l[2]", "b": 6}]),
        ({"a b": 1}, {"a b": 2}, [{"path": 'v["a b"]', "a": 1, "b": 2}]),
        ({"x": {"y": [1]}}, {"x": [1]}, [{"path": "v.x", "a": {"y": [1]}, "b": [1]}]),
        (1, True, [{"path": "v", "a": 1, "b": True}]),
        (1, 1.0, [{"path": "v", "a": 1, "b": 1.0}]),
        (float("nan"), float("nan"), []),
    ],
)  # fmt: skip
def test_each_place_that_differs_is_named_once(a: Any, b: Any, expected: list[dict[str, Any]]) -> None:
    """R21: `outputs.charge.lines[0]: 3 -> 4`."""
    assert list(changes("v", a, b)) == expected


@given(a=json_values)
def test_a_value_is_the_same_as_itself(a: Any) -> None:
    assert list(changes("v", a, a)) == []


@given(a=json_values, b=json_values)
def test_swapped_sides_give_the_same_places(a: Any, b: Any) -> None:
    there = {one["path"]: (one.get("a", ...), one.get("b", ...)) for one in changes("v", a, b)}
    back = {one["path"]: (one.get("b", ...), one.get("a", ...)) for one in changes("v", b, a)}
    assert repr(sorted(there.items(), key=str)) == repr(sorted(back.items(), key=str))


def test_a_value_as_deep_as_python_can_hold_is_no_trouble() -> None:
    a: Any = 1
    b: Any = 2
    for _ in range(50_000):
        a, b = [a], [b]
    ((one),) = changes("v", a, b)
    assert (one["a"], one["b"]) == (1, 2)
    while isinstance(a, list):
        a, b = a[0], b[0]  # Python would take them apart recursively
