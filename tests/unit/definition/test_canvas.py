"""A stored canvas that was damaged, or written by another version, is refused in words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import make_plan
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import DefinitionError


def leaf(step_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"task": "t", "step": {"id": step_id}, "options": {}, "subtask_type": None, "immutable": False} | more


def group(*tasks: Any) -> dict[str, Any]:
    return {"task": "celery.group", "kwargs": {"tasks": list(tasks)}, "subtask_type": "group"}


def chain(*tasks: Any) -> dict[str, Any]:
    return {"task": "celery.chain", "kwargs": {"tasks": list(tasks)}, "subtask_type": "chain"}


def read(node: Any) -> Any:
    return read_cascade(Source(body=json.dumps(node).encode(), format="canvas"))


def test_what_is_fed_to_whom_is_celerys_rule() -> None:
    cascade = read({"cascade": "c", **chain(leaf("a"), group(leaf("b"), chain(leaf("c"), leaf("d"))), leaf("e"))})
    fed = {step.id: (step.needs, step.call.fed) for step in cascade.steps if step.call}
    assert fed == {
        "a": ((), None),
        "b": (("a",), "a"),
        "c": (("a",), "a"),
        "d": (("c",), "c"),
        "e": (("b", "d"), ("b", "d")),
    }
    assert cascade.returns == "e"
    assert make_plan(cascade).joins == ("e",)


def test_an_immutable_signature_waits_but_is_fed_nothing() -> None:
    cascade = read({"cascade": "c", **chain(leaf("a"), leaf("b", immutable=True))})
    assert cascade.steps[1].needs == ("a",)
    assert cascade.steps[1].call is not None
    assert cascade.steps[1].call.fed is None


@pytest.mark.parametrize(
    ("node", "what"),
    [
        ([], "where a signature belongs"),
        (leaf(), "no cascade"),
        ({"cascade": "c", **leaf(step={})}, "no id"),
        ({"cascade": "c", **leaf(task="")}, "no task"),
        ({"cascade": "c", **chain()}, "without tasks"),
        ({"cascade": "c", **chain(leaf("a"), leaf("a"))}, "step 'a' twice"),
        ({"cascade": "c", **leaf(subtask_type="xmap")}, "'xmap'"),
        ({"cascade": "c", **leaf(step={"id": "a", "retry": {"max_attemps": 1}})}, "max_attempts"),
        ({"cascade": "c", **leaf(step={"id": "a", "timeout": "soon"})}, "timeout"),
        ({"cascade": "c", **leaf(options=[])}, "where a signature belongs"),
    ],
)
def test_a_canvas_that_says_nothing_that_can_be_run_is_refused(node: Any, what: str) -> None:
    with pytest.raises(DefinitionError, match=what):
        read(node)


KEYS = [
    "task",
    "step",
    "id",
    "kwargs",
    "tasks",
    "subtask_type",
    "header",
    "body",
    "options",
    "retry",
    "timeout",
    "queue",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner | st.sampled_from(["chain", "group", "chord"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_random_structures_are_read_or_refused_never_anything_else(node: Any) -> None:
    with suppress(DefinitionError):
        read({"cascade": "c", **node} if isinstance(node, dict) else node)
