"""Secrets by the names of their keys: in data, in words, and where they stand again (R145)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.config import SECRET_KEYS, CascadeConfig
from celery_cascade.redaction import HIDDEN, Keys, Scrubber, redacted, redacted_words, scrub, secrets_in

KEYS = Keys(SECRET_KEYS)


@pytest.mark.parametrize(
    "key",
    ["password", "dbPassword", "DB_PASSWORD", "PGPASSWORD", "X-Api-Key", "apikey", "API_KEY_2", "accessToken"],
)
def test_a_secret_key_is_known_however_it_is_spelled(key: str) -> None:
    """R145."""
    assert KEYS.match(key)


@pytest.mark.parametrize("key", ["max_tokens", "monkey", "key", "secretary", "passwordless", "tokenizer", "", 7, None])
def test_what_only_looks_like_one_is_none(key: Any) -> None:
    assert not KEYS.match(key)


def test_a_pattern_may_be_a_glob_and_an_empty_list_hides_nothing() -> None:
    """R145: the rules are the user's."""
    keys = Keys(["*pin", "card no"])
    assert [keys.match(key) for key in ("userPin", "PIN", "pinned", "cardNo", "card_no_2", "password")] == [
        True, True, False, True, True, False,
    ]  # fmt: skip
    nothing = {"password": "hunter2"}
    assert redacted(nothing, Keys([])) is nothing
    assert redacted_words("password=hunter2", Keys([])) == "password=hunter2"
    assert secrets_in(nothing, Keys([])) == set()


def test_the_setting_takes_patterns() -> None:
    assert CascadeConfig.from_mapping({}, {}).redact == SECRET_KEYS
    assert CascadeConfig.from_mapping({"cascade_redact": []}, {}).redact == ()
    assert CascadeConfig.from_mapping({"cascade_redact": "pin"}, {}).redact == ("pin",)


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ({"password": "x", "n": 1}, {"password": HIDDEN, "n": 1}),
        ({"a": [{"b": {"token": 5}}]}, {"a": [{"b": {"token": HIDDEN}}]}),
        ({"credentials": {"user": "ann", "key": "k"}}, {"credentials": HIDDEN}),
        ({"password": None, "token": "", "secret": False}, {"password": None, "token": "", "secret": False}),
        ({"headers": [["Authorization", "Bearer x"]]}, {"headers": [["Authorization", HIDDEN]]}),
        ({"env": [{"name": "API_KEY", "value": "x"}]}, {"env": [{"name": "API_KEY", "value": HIDDEN}]}),
        ({"body": '{"token": "x", "n": 1}'}, {"body": f'{{"token": "{HIDDEN}", "n": 1}}'}),
        ({"body": '{"n":  1}'}, {"body": '{"n":  1}'}),
        ({"url": "redis://:pw@h/0 and x://u:p@h"}, {"url": f"redis://:{HIDDEN}@h/0 and x://u:{HIDDEN}@h"}),
        ("the password: is long", "the password: is long"),
    ],
    ids=str,
)
def test_data_is_hidden_at_every_depth(value: Any, hidden: Any) -> None:
    """R145: words of users stay as they are; what is empty says so."""
    before = json.dumps(value)
    assert redacted(value, KEYS) == hidden
    assert json.dumps(value) == before


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("{'password': 'it\\'s x', 'n': 1}", f"{{'password': {HIDDEN}, 'n': 1}}"),
        ("{'a': {'token': ['x', {'y': 'z'}], 'n': 1}}", f"{{'a': {{'token': {HIDDEN}, 'n': 1}}}}"),
        ("connect(password=hunter2, user=ann)", f"connect(password={HIDDEN}, user=ann)"),
        ("Authorization: Bearer abc.def then", f"Authorization: {HIDDEN} then"),
        ("{'api_key': 'cut off in the midd", f"{{'api_key': {HIDDEN}"),
        ('"{\\"secret\\": \\"x y\\"}"', f'"{{\\"secret\\": {HIDDEN}}}"'),
        ("secret=b'\\x00y'", f"secret={HIDDEN}"),
        ("no password was given: None", "no password was given: None"),
        ("token: None, max_tokens=7", "token: None, max_tokens=7"),
    ],
)
def test_words_lose_what_they_give_to_a_secret_key(text: str, hidden: str) -> None:
    """R145."""
    assert redacted_words(text, KEYS) == hidden
    assert redacted_words(hidden, KEYS) == hidden


def test_a_secret_is_taken_out_wherever_it_stands_again() -> None:
    """R145: in other texts, in keys, in quotes; a short one as a word only."""
    secrets = secrets_in({"password": 'hun"ter\n2', "token": ["sesame", 12345678], "pin": "no", "secret": "abc"}, KEYS)
    assert secrets == {'hun"ter\n2', "sesame", "12345678"}
    scrubber = Scrubber(secrets)
    assert scrubber.text('login hun"ter\n2 failed') == f"login {HIDDEN} failed"
    assert scrubber.text(repr({"x": 'hun"ter\n2'})) == repr({"x": HIDDEN})
    assert scrubber.text("12345678 sesame, sesameseed") == f"{HIDDEN} {HIDDEN}, sesameseed"
    assert scrubber.data({"sesame!": ["open sesame"], "at": 5}) == {f"{HIDDEN}!": [f"open {HIDDEN}"], "at": 5}
    assert scrub("x", []) == "x"


def test_a_circle_and_what_stands_in_many_texts_is_looked_through() -> None:
    """R145: a task may have made a circle of what it was given; JSON in a text is gone once it was looked at."""
    circle: dict[str, Any] = {"password": "sesame", "texts": [json.dumps({"token": f"token-{n}"}) for n in range(500)]}
    circle["again"] = [circle]
    assert secrets_in(circle, KEYS) == {"sesame", *(f"token-{n}" for n in range(500))}


def test_thousands_of_secrets_are_taken_out_as_a_few_are() -> None:
    """R145: also the longer of two, and by who only looks for those that stand in a text."""
    scrubber = Scrubber(f"token-{n}" for n in range(5000))
    text = "token-4, 'token-4999' and token-49990 of xtoken-17"
    assert scrubber.text(text) == f"{HIDDEN}, '{HIDDEN}' and {HIDDEN}0 of x{HIDDEN}"
    assert scrubber.within(text).text(text) == scrubber.text(text)
    assert scrubber.within(text).data([text[:7], "token-5"]) == [HIDDEN, "token-5"]
    assert scrubber.data({"a": "token-5"}) == {"a": HIDDEN}


def test_what_programs_read_stays_whatever_the_secret_is() -> None:
    view = {"status": "completed", "created_at": "2026-05-17T08:00:00Z", "name": "2026 completed status"}
    assert Scrubber({"2026", "completed", "status"}).data(view) == view | {"name": f"{HIDDEN} {HIDDEN} {HIDDEN}"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "password", "apiKey"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(JSON)
def test_nothing_secret_is_left_in_data_or_in_their_repr(value: Any) -> None:
    """R145."""
    secrets = secrets_in(value, KEYS)
    clean = Scrubber(secrets).data(redacted(value, KEYS))
    assert secrets_in(clean, KEYS) == set()
    shown = json.dumps(clean, ensure_ascii=False)
    assert not any(len(secret) >= 8 and secret in shown for secret in secrets)
    redacted_words(repr(value), KEYS)
