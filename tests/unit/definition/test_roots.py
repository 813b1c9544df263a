"""Which of several files is run."""

from __future__ import annotations

import pytest

from celery_cascade.definition.roots import roots_of


@pytest.mark.parametrize(
    ("references", "roots"),
    [
        ({}, []),
        ({"a": []}, ["a"]),
        ({"a": ["b"], "b": []}, ["a"]),
        ({"b": [], "a": ["b"]}, ["a"]),
        ({"a": ["b"], "b": ["c"], "c": []}, ["a"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, ["a"]),
        ({"a": ["elsewhere"]}, ["a"]),
        ({"a": [], "b": []}, ["a", "b"]),
        ({"a": ["c"], "b": ["c"], "c": []}, ["a", "b"]),
        ({"a": ["a"]}, ["a"]),
        ({"a": ["b"], "b": ["a"]}, []),
    ],
)
def test_the_root_is_the_one_that_no_other_refers_to(references: dict[str, list[str]], roots: list[str]) -> None:
    """D8."""
    assert roots_of(references) == roots
