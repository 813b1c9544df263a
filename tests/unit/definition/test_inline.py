import datetime
import decimal
import enum
import math
import uuid
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.definition import from_mapping, read_cascade
from celery_cascade.definition.document import parse
from celery_cascade.errors import DefinitionError

CASCADE = {"cascade": "x", "steps": [{"id": "a", "task": "t"}]}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = """yes no on off true null ~ 1 1.0 1e5 0x1F 010 1_000 22:30 2001-01-01 = << - ? : # & * ! | > ' " % @ ` {{ }}
    --- ... [] {} a:b"""
tricky = st.sampled_from([*WORDS.split(), "", " ", "a:\tb"])
lines = st.lists(st.sampled_from(["a", " b", "", "c ", "\t", "#", "---", "é", "\r", "\x85", "\u2028", ": x"])).map(
    "\n".join
)
texts = text | tricky | lines
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


def back(mapping: Any) -> Any:
    return parse(from_mapping(mapping)).root.plain()


@given(st.dictionaries(texts, values, max_size=5))
def test_any_mapping_of_json_values_loads_back_equal_and_in_order(mapping: dict[str, Any]) -> None:
    """R4: an inline definition is YAML that loads back equal, types and order included."""
    assert repr(back(mapping)) == repr(mapping)
    assert b"!!" not in from_mapping({"a": 1}).body


def test_an_inline_definition_reads_as_a_cascade() -> None:
    """R4, R5: its format is inline."""
    source = from_mapping(CASCADE)
    assert source.format == "inline"
    assert source.path is None
    assert source.body == b"cascade: x\nsteps:\n- id: a\n  task: t\n"
    assert read_cascade(source).steps[0].task == "t"


def test_text_of_several_lines_is_stored_as_a_block_that_people_can_read() -> None:
    assert b"sql: |\n" in from_mapping({"sql": "SELECT 1\nFROM t\n"}).body


class Colour(enum.StrEnum):
    RED = "red"


def test_subclasses_that_equal_a_plain_value_become_that_value() -> None:
    assert back({"a": Colour.RED, "b": MappingProxyType({"c": 1})}) == {"a": "red", "b": {"c": 1}}
    assert type(back({"a": Colour.RED})["a"]) is str


def test_a_value_that_is_used_twice_is_written_twice() -> None:
    shared = {"k": [1]}
    body = from_mapping({"a": shared, "b": shared}).body
    assert b"&" not in body
    assert b"*" not in body


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2026, 1, 1),
        datetime.date(2026, 1, 1),
        decimal.Decimal("1.1"),
        uuid.UUID(int=1),
        b"bytes",
        (1, 2),
        {1, 2},
        frozenset(),
        object(),
        math.nan,
        math.inf,
        "\ud800",
        10**500,
        lambda: None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_would_not_read_back_equal_is_refused_by_its_path(value: Any) -> None:
    """R4: before anything runs, and named."""
    mapping = {"cascade": "x", "steps": [{"id": "a", "task": "t", "with": {"deep": [0, value]}}]}
    with pytest.raises(DefinitionError, match=r"steps\[0\]\.with\.deep\[1\]"):
        from_mapping(mapping)


def test_a_key_that_is_not_text_is_refused_with_its_cure() -> None:
    with pytest.raises(DefinitionError, match=r"a\.b has the key 1; keys must be text, write '1'"):
        from_mapping({"a": {"b": {1: 2}}})


def test_a_mapping_that_holds_itself_is_refused() -> None:
    mapping: dict[str, Any] = {"cascade": "x"}
    mapping["again"] = mapping
    with pytest.raises(DefinitionError, match="holds itself"):
        from_mapping(mapping)


def test_a_bomb_of_shared_lists_is_refused_at_once() -> None:
    bomb: list[Any] = ["x"] * 9
    for _ in range(20):
        bomb = [bomb] * 9
    with pytest.raises(DefinitionError, match="larger than the limit"):
        from_mapping({"a": bomb})


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(DefinitionError, match="must be a mapping, not list"):
        from_mapping([])  # type: ignore[arg-type]
