"""Values to JSON and back: nothing is lost, and what would be lost is named."""

from __future__ import annotations

import enum
import json
import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from celery_cascade.errors import NotSerializable, PayloadTooLarge, StoreError
from celery_cascade.persistence.codec import MAX_DEPTH, decode, encode, encode_limited, from_plain, to_plain

zones = st.none() | st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
)
keys = st.text() | st.sampled_from(["__type__", "__value__", "bytes", "__base64__", "cascade:mapping"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(keys, inner)
        | st.fixed_dictionaries({"__type__": inner | keys, "__value__": inner})
    ),
    max_leaves=20,
)


@given(values)
@settings(max_examples=500, deadline=None)
def test_every_value_comes_back_equal(value):
    """R6, R42, R84."""
    text = encode(value, what="value")
    assert decode(text) == value
    assert from_plain(json.loads(json.dumps(to_plain(value, what="value")))) == value


@given(values)
@settings(max_examples=200, deadline=None)
def test_text_is_json_in_storable_characters(value):
    """R126: any JSON reader takes it; no NUL and no half characters reach a database."""
    text = encode(value, what="value")
    json.loads(text)
    assert "\x00" not in text
    assert len(text.encode()) >= len(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=200, deadline=None)
def test_plain_data_is_written_as_plain_json(value):
    """R14: `json.loads(input_data)` equals the inputs."""
    if isinstance(value, dict) and "__type__" in value:
        return
    assert json.loads(encode(value, what="value")) == value


def test_non_ascii_is_kept_and_separators_are_short():
    assert encode({"name": "Zoë 🚀", "n": [1, 2]}, what="value") == '{"name":"Zoë 🚀","n":[1,2]}'


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        date(1, 1, 1),
        time(23, 59, 59, 999999),
        Decimal("0.1000"),
        Decimal("1E+400"),
        uuid.UUID(int=7),
        b"caf\xc3\xa9",
        b"\xff\x00\xfe",
    ],
)
def test_type_that_kombu_knows_comes_back_and_kombu_can_read_it(value):
    text = encode({"value": value}, what="value")
    assert decode(text) == {"value": value}
    assert kombu_json.loads(text) == {"value": value}


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "datetime", "__value__": "not a date"},
        {"__type__": "no such type", "__value__": None},
        {"__type__": "cascade:mapping", "__value__": [["a", 1]]},
        {"__value__": {"__type__": "uuid", "__value__": {"hex": "0"}}, "__type__": ["x"]},
        {"__type__": "datetime"},
        {"__type__": 1, "__value__": 2, "more": 3},
        [
            {
                "deep": {
                    "__type__": "bytes",
                    "__value__": "x",
                }
            }
        ],
    ],
)
def test_users_mapping_with_reserved_keys_comes_back_as_a_mapping(value):
    """DESIGN 5: it would otherwise raise on every read, or come back as something else."""
    assert decode(encode(value, what="value")) == value


def test_tuples_come_back_as_lists_and_words_of_an_enum_as_text():
    class Word(enum.StrEnum):
        YES = "yes"

    class Number(enum.IntEnum):
        ONE = 1

    value = {"pair": (1, (2,)), "word": Word.YES, "number": Number.ONE, "ordered": OrderedDict(b=1, a=2)}
    assert decode(encode(value, what="value")) == {
        "pair": [1, [2]],
        "word": "yes",
        "number": 1,
        "ordered": {"b": 1, "a": 2},
    }


def test_integer_beyond_64_bits_is_kept():
    assert decode(encode([2**63, -(2**200)], what="value")) == [2**63, -(2**200)]


CYCLE: list[object] = []
CYCLE.append({"again": CYCLE})
DEEP: list[object] = []
for _ in range(MAX_DEPTH + 5):
    DEEP = [DEEP]


class Plain(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"items": [0, 0, 0, {"when": {1}}]}, "output.items[3].when: set is not JSON"),
        ({"a b": object()}, "output['a b']: object is not JSON"),
        ({"x": [math.nan]}, "output.x[0]: nan is not JSON"),
        (math.inf, "output: inf is not JSON"),
        ({"n": {1: "one"}}, "output.n: key 1 is int; JSON has string keys only"),
        ({"n": {None: "one"}}, "output.n: key None is NoneType"),
        ({"n": {(1, 2): "one"}}, "output.n: key (1, 2) is tuple"),
        ({"t": "half \ud800"}, "output.t: text with a lone surrogate"),
        ({"half \ud800": 1}, "output: text with a lone surrogate"),
        ({"c": Plain.RED}, "output.c: Plain is not JSON"),
        ({"c": 1j}, "output.c: complex is not JSON"),
        ({"c": [datetime(2026, 1, 1), {"d": timedelta(1)}]}, "output.c[1].d: timedelta is not JSON"),
        ({"c": CYCLE}, "or a value that contains itself"),
        ({"c": DEEP}, f"nested deeper than {MAX_DEPTH} levels"),
        ({"c": 10**5000}, "output.c: the integer has more digits"),
    ],
)
def test_what_would_be_lost_is_refused_by_path_and_type(value, says):
    """R84, R124: named, never filtered silently, never `default=str`."""
    with pytest.raises(NotSerializable) as caught:
        encode(value, what="output")
    assert says in str(caught.value)
    assert caught.value.hint


def test_nesting_up_to_the_limit_is_kept():
    value: list[object] = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert decode(encode(value, what="value")) == value
    assert decode(encode([value[0], date(2026, 1, 1)], what="value")) == [value[0], date(2026, 1, 1)]


def test_size_is_counted_in_bytes_and_nothing_is_cut():
    """R83."""
    assert encode_limited("é" * 10, what="output of step a", limit=22) == '"' + "é" * 10 + '"'
    with pytest.raises(PayloadTooLarge, match="output of step a is 22 bytes as JSON; the limit is 21"):
        encode_limited("é" * 10, what="output of step a", limit=21)


@pytest.mark.parametrize(
    "text", ["{", "", '{"__type__": "never registered", "__value__": 1}', '{"__type__":"date","__value__":"x"}']
)
def test_text_that_does_not_decode_is_a_store_error(text):
    """R85: one such row spoils its own value only."""
    with pytest.raises(StoreError, match="cannot be read"):
        decode(text)


def test_type_that_an_application_registers_with_kombu_is_kept():
    class Money:
        def __init__(self, cents):
            self.cents = cents

        def __eq__(self, other):
            return self.cents == other.cents

        __hash__ = None

    kombu_json.register_type(Money, "money", lambda m: {"cents": m.cents}, lambda plain: Money(**plain))
    try:
        assert decode(encode([Money(5)], what="value")) == [Money(5)]
    finally:
        del kombu_json._encoders[Money], kombu_json._decoders["money"]
