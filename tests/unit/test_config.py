"""The settings object: what it takes, what it refuses, and in which words."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.config import CascadeConfig, Retention, doubts_in, effective, problems_in
from celery_cascade.config.about import TYPES, settings_of
from celery_cascade.errors import ConfigError

KINDS = {name: about.kind for name, about in settings_of(CascadeConfig).items()}
NUMBERS = [name for name, kind in KINDS.items() if kind in ("seconds", "count", "bytes")]
NAN, INFINITE = float("nan"), float("inf")


def read(**conf: Any) -> CascadeConfig:
    return CascadeConfig.from_mapping(conf, {})


def refusal(**conf: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(**conf)
    assert problems_in(conf, {}) == [caught.value.message]
    return caught.value.message


def of(app_settings: Any, **options: Any) -> Any:
    app = Celery("x", set_as_current=False)
    app.config_from_object(app_settings, **options)
    return app.conf


def test_nothing_has_to_be_set() -> None:
    assert read() == CascadeConfig()
    assert read(cascade_queue=None, cascade_home="", cascade_max_crashes=None) == CascadeConfig()


def test_each_setting_has_its_words() -> None:
    """R79: every key documented with its default: what, when to change it, what happens without it."""
    for cls in (CascadeConfig, Retention):
        for name, about in settings_of(cls).items():
            assert about.doc.endswith("."), name
            assert about.change.endswith("."), name
            assert about.without.endswith("."), name
            assert about.kind in TYPES


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["30", "thirty", "", True, -1, 0, NAN, INFINITE, 1e300, [5], {"s": 5}, b"5", 1 + 2j])
def test_what_is_no_number_above_nothing_is_refused_by_name(name: str, value: Any) -> None:
    """R79."""
    if value == "":
        assert read(**{f"cascade_{name}": value}) == CascadeConfig()
        return
    assert refusal(**{f"cascade_{name}": value}).startswith(f"cascade_{name} is {value!r}; it must be ")


def test_a_number_in_quotes_is_told_to_be_one() -> None:
    """R79: what comes out of the environment is text."""
    assert refusal(cascade_max_crashes="3") == (
        "cascade_max_crashes is '3'; it must be a whole number, 1 or more; write 3 without quotes, or convert it"
    )


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind == "flag"])
@pytest.mark.parametrize("value", [1, 0, "true", "no", [], 1.0])
def test_a_flag_is_true_or_false_and_nothing_like_it(name: str, value: Any) -> None:
    assert refusal(**{f"cascade_{name}": value}) == f"cascade_{name} is {value!r}; it must be True or False"


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind == "text"])
@pytest.mark.parametrize("value", [["a"], 1, False, {"a": 1}, b"x", timedelta(1)])
def test_text_is_text_or_a_path(name: str, value: Any) -> None:
    assert refusal(**{f"cascade_{name}": value}) == f"cascade_{name} is {value!r}; it must be text"
    server = {} if name == "database_url" else {"cascade_database_url": "postgresql://db/x"}
    assert getattr(read(**server, **{f"cascade_{name}": Path("word")}), name) == "word"


def test_spans_of_time_may_be_timedeltas_and_numbers_whole() -> None:
    config = read(cascade_resend_after=timedelta(minutes=5), cascade_max_crashes=7.0, cascade_timer_interval=2)
    assert (config.resend_after, config.max_crashes, config.timer_interval) == (300.0, 7, 2.0)
    assert type(config.max_crashes) is int
    assert "-86400" in refusal(cascade_resend_after=timedelta(days=-1))


def test_patterns_are_one_or_several() -> None:
    assert read(cascade_definitions="a/*.yaml").definitions == ("a/*.yaml",)
    assert read(cascade_definitions=[Path("a"), "b"]).definitions == ("a", "b")
    assert "it must be a list of glob patterns" in refusal(cascade_definitions=[1])


def test_ages_are_timedeltas_days_or_for_ever() -> None:
    """D9."""
    retention = read(cascade_retention={"completed": 3, "failed": None, "keep_last": 0}).retention
    assert retention == Retention(completed=timedelta(days=3), failed=None, keep_last=0)
    assert read(cascade_retention=None).retention is None
    assert Retention(completed=3) == Retention(completed=timedelta(days=3))  # type: ignore[arg-type]


@pytest.mark.parametrize("age", [-1, "7", True, NAN, INFINITE, timedelta(days=-1), timedelta.max, 10**12])
def test_an_age_that_cannot_be_is_refused(age: Any) -> None:
    said = refusal(cascade_retention={"failed": age})
    assert said.startswith(f"cascade_retention: failed is {age!r}; it must be ")
    with pytest.raises(ConfigError):
        Retention(failed=age)


def test_a_wrong_field_of_retention_gets_the_nearest_right_word() -> None:
    """R79."""
    said = refusal(cascade_retention={"keep": 3})
    assert said == "unknown key 'keep' in cascade_retention; did you mean 'keep_last'?"
    assert "it knows batch, cancelled, completed, " in refusal(cascade_retention={"zzz": 1})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("cascade_databse_url", "cascade_database_url"),
        ("cascade_Queue", "cascade_queue"),
        ("cascade_zzz", None),
        ("cascade_max_checkpoint_size_mb", "cascade_max_payload_bytes"),
        ("cascade_keep_last_n", "cascade_retention"),
    ],
)
def test_an_unknown_key_gets_the_nearest_right_word(key: str, meant: str | None) -> None:
    """R79: a wrong key is refused."""
    assert refusal(**{key: 1}) == f"unknown setting {key}" + (f"; did you mean {meant}?" if meant else "")


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("CASCADE_DATABASE_URL", "cascade_database_url"),
        ("Cascade_Queue", "cascade_queue"),
        ("CELERY_CASCADE_HOME", "cascade_home"),
        ("celery_cascade_home", "cascade_home"),
        ("CASCADE_DATABSE_URL", "cascade_database_url"),
    ],
)
def test_a_key_in_another_spelling_is_told_and_not_passed_over(key: str, right: str) -> None:
    """R79: Celery keeps unknown keys in silence; a store that is not the one somebody named loses work."""
    said = f"the setting {key} is not read under this name; write {right}"
    assert refusal(**{key: "x"}) == said
    assert problems_in(of({key: "x"}), {}) == [said]


def test_under_a_namespace_keys_bear_it() -> None:
    """Django: CELERY_CASCADE_…; what the settings of others are called is theirs, but for our very names."""
    settings = SimpleNamespace(CELERY_CASCADE_QUEUE="q", CASCADE_COLOUR="red", CASCADE_QUEUES=1, CASCADE_HOME="/x")
    conf = of(settings, namespace="CELERY")
    assert problems_in(conf, {}) == ["the setting CASCADE_HOME is not read under this name; write CELERY_CASCADE_HOME"]
    conf = of(SimpleNamespace(CELERY_CASCADE_QEUE="q", CELERY_CASCADE_MAX_CRASHES="x"), namespace="CELERY")
    assert sorted(problems_in(conf, {})) == [
        "CELERY_CASCADE_MAX_CRASHES is 'x'; it must be a whole number, 1 or more",
        "unknown setting CELERY_CASCADE_QEUE; did you mean CELERY_CASCADE_QUEUE?",
    ]


def test_the_environment_fills_in_what_is_not_set_and_never_replaces_what_is() -> None:
    environ = {"CELERY_CASCADE_DATABASE_URL": "sqlite:///env", "CELERY_CASCADE_HOME": "/env"}
    config = CascadeConfig.from_mapping({"cascade_home": "/conf"}, environ)
    assert (config.database_url, config.home) == ("sqlite:///env", "/conf")
    found = effective({"cascade_home": "/conf"}, environ)
    assert found["cascade_database_url"] == ("sqlite:///env", "CELERY_CASCADE_DATABASE_URL")
    assert found["cascade_home"] == ("/conf", "cascade_home")
    assert found["cascade_queue"] == (None, "default")
    assert list(found) == [f"cascade_{field.name}" for field in fields(CascadeConfig)]


def test_variables_that_look_like_settings_but_are_not_read_are_told() -> None:
    environ = {
        "CELERY_CASCADE_DATABASE_URL": "x", "CELERY_CASCADE_DEBUG": "1", "CELERY_CASCADE_WORKER": "w", "PATH": "/",
        "CELERY_CASCADE_DATABSE_URL": "x", "CELERY_CASCADE_QUEUE": "q", "CASCADE_HOME": "h", "CASCADE_VENV": "v",
    }  # fmt: skip
    assert doubts_in(environ) == [
        "CASCADE_HOME is in the environment but is not read; write CELERY_CASCADE_HOME",
        "CELERY_CASCADE_DATABSE_URL is in the environment but is not read; did you mean CELERY_CASCADE_DATABASE_URL?",
        "CELERY_CASCADE_QUEUE is in the environment but is not read; set cascade_queue in the Celery configuration",
    ]


words = st.sampled_from(["", "x", "5", "failed", "batch", "sqlite://"])
values = st.none() | st.booleans() | st.integers() | st.floats() | words | st.timedeltas() | st.binary(max_size=3)
values = values | st.lists(values, max_size=2) | st.dictionaries(words, values, max_size=2)


@given(st.dictionaries(st.sampled_from([f"cascade_{name}" for name in KINDS]), values, max_size=4))
def test_whatever_is_set_gives_settings_or_a_config_error(conf: dict[str, Any]) -> None:
    """R79, R150."""
    wrong = problems_in(conf, {})
    if wrong:
        with pytest.raises(ConfigError) as caught:
            CascadeConfig.from_mapping(conf, {})
        assert caught.value.message == wrong[0]
    else:
        assert CascadeConfig.from_mapping(conf, {}).problems() == []
