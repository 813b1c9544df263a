"""`cascade_store_required`: without a store a start is refused, or runs plain and says so once (D4, R15, R56)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.errors import DefinitionError, SchemaOutOfDate, StoreDamaged, StoreError, StoreUnavailable
from celery_cascade.tasks import degraded
from sessions.kit import CHAIN, Kit

TABLES = ("session_steps", "step_attempts", "session_states", "cascade_sessions")
FORK = (
    {"id": "a", "task": "add", "with": {"x": 1}},
    {"id": "b", "task": "add", "needs": ["a"], "with": {"x": "{{ outputs.a }}"}},
    {"id": "no", "task": "add", "needs": ["a"], "when": "{{ outputs.a > 10 }}"},
    {"id": "c", "task": "echo", "needs": ["b", "no"], "with": ["{{ [outputs.b, outputs.no] }}"]},
)


def drop_tables(kit: Kit) -> None:
    for table in TABLES:
        kit.sql(f"DROP TABLE {table}")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "plain" in record.getMessage()]


@pytest.fixture
def lax(make_kit: Callable[..., Kit], sqlite_store: str) -> Kit:
    kit = make_kit(sqlite_store, cascade_store_required=False)
    assert kit.start("a").durable
    assert kit.messages()
    return kit


def test_by_default_a_start_without_tables_is_refused_and_no_task_runs(kit: Kit) -> None:
    """D4, R15: a durable run that silently is not durable is a lie."""
    kit.start("a")
    kit.messages()
    drop_tables(kit)
    for start in (kit.start, kit.run):
        with pytest.raises(SchemaOutOfDate, match="lacks a table") as told:
            start("a")
        assert told.value.exit_code == 7
        assert "cascade migrate up" in told.value.hint
    assert (kit.messages(), kit.ran) == ([], [])


def test_a_hundred_starts_after_the_table_was_dropped_give_one_warning(
    lax: Kit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R15: one warning a process, naming the migrate command; every task runs."""
    drop_tables(lax)
    monkeypatch.setattr(degraded, "PAUSE", 0.0)
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        runs = [lax.start("a") for _ in range(100)]
    (warning,) = warnings(caplog)
    assert "cascade migrate up" in warning
    assert not any(run.durable for run in runs)
    plain = lax.messages()
    assert len(plain) == 100
    assert receive_all(lax, plain) == [1] * 100
    assert lax.ran == ["plain"] * 100


def receive_all(kit: Kit, messages: list[Any]) -> list[Any]:
    return [kit.receive(message).result for message in messages]


def test_a_plain_run_gives_what_the_durable_one_gives(lax: Kit) -> None:
    """R15: templates, joins, skipped steps and the output."""
    durable = lax.cascades.run({"cascade": "t", "steps": list(FORK)}).output
    drop_tables(lax)
    run = lax.cascades.start({"cascade": "t", "steps": list(FORK)})
    (message,) = lax.messages()
    assert receive_all(lax, [message]) == [durable] == [[3, None]]
    assert run.id == message.headers["id"]
    here = lax.cascades.run({"cascade": "t", "steps": list(FORK)})
    assert (here.durable, here.result(), here.ready()) == (False, durable, True)


def test_a_cascade_file_with_inputs_runs_plain_with_its_retries(lax: Kit) -> None:
    drop_tables(lax)
    path = lax.file(CHAIN)
    assert lax.cascades.run(path, {"n": 4}).result() == 7
    tries = []

    @lax.task("twice")
    def twice() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("not yet")
        return "ok"

    retry = {"max_attempts": 2, "delay": "1ms"}
    assert lax.run({"id": "a", "task": "twice", "retry": retry}).result() == "ok"
    with pytest.raises(ValueError, match="fixed is not there"):
        lax.run({"id": "a", "task": "broken"})


def test_what_is_wrong_with_a_definition_is_told_as_ever(lax: Kit) -> None:
    drop_tables(lax)
    with pytest.raises(DefinitionError, match="'nope' is not registered"):
        lax.start({"id": "a", "task": "nope"})
    assert lax.messages() == []


def test_the_handle_of_a_plain_run_says_that_nothing_is_stored(lax: Kit) -> None:
    drop_tables(lax)
    run = lax.start("a")
    looks: list[Callable[[], Any]] = [
        lambda: run.status, lambda: run.inputs, lambda: run.steps, lambda: run.version, lambda: run.definition,
        lambda: run.attempts, run.to_dict, run.cancel, run.suspend, run.resume, lambda: run.context,
        lambda: run.context_history, lambda: run.conversation_history, lambda: run.say("user", "hi"),
    ]  # fmt: skip
    for look in looks:
        with pytest.raises(StoreError, match=f"run {run.id} is not durable"):
            look()


def test_when_the_tables_are_there_again_starts_are_durable_again(
    lax: Kit, make_kit: Callable[..., Kit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degraded, "PAUSE", 0.0)
    lax.sql("ALTER TABLE session_steps RENAME TO away")
    assert not lax.start("a").durable
    lax.sql("ALTER TABLE away RENAME TO session_steps")
    assert lax.start("a").durable


def test_an_unmigrated_or_absent_store_is_missing_too_and_is_not_asked_at_every_start(
    make_kit: Callable[..., Kit], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R15: unreachable and not migrated alike; starts do not wait for a connection's time-out each."""
    for url in (f"sqlite:///{tmp_path / 'new.sqlite'}", "postgresql://nobody@127.0.0.1:1/none"):
        kit = make_kit(url, cascade_store_required=False)
        asked = []
        monkeypatch.setattr(type(kit.runtime), "_open_store", counted(asked, type(kit.runtime)._open_store))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "celery_cascade"):
            assert not any(kit.start("a").durable for _ in range(5))
        assert len(warnings(caplog)) == 1
        assert len(asked) == 1
        monkeypatch.undo()
        strict = make_kit(url)
        with pytest.raises((SchemaOutOfDate, StoreUnavailable)):
            strict.start("a")


def counted(asked: list[int], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any) -> Any:
        asked.append(1)
        return real(self)

    return call


def test_a_damaged_store_is_never_taken_for_a_missing_one(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """D4: that must be seen, whatever the setting."""
    (tmp_path / "bad.sqlite").write_bytes(b"garbage " * 1000)
    kit = make_kit(f"sqlite:///{tmp_path / 'bad.sqlite'}", cascade_store_required=False)
    with pytest.raises(StoreDamaged):
        kit.start("a")


def test_decorated_sends_are_plain_messages_then(lax: Kit) -> None:
    """R15, R151."""

    @lax.cascades.step
    @lax.app.task(name="decorated", shared=False)
    def decorated(x: int) -> int:
        lax.note()
        return x + 1

    lax.app.finalize()
    assert decorated.delay(1).durable
    lax.messages()
    drop_tables(lax)
    decorated.delay(1)
    (decorated.s(1) | decorated.s()).delay()
    plain = lax.messages()
    assert [message.headers["task"] for message in plain] == ["decorated", "decorated"]
    assert receive_all(lax, plain) == [2, 2]


def test_the_start_task_runs_plain_too(lax: Kit) -> None:
    """R159: what Beat starts goes on as well."""
    lax.cascades.register(lax.file(CHAIN))
    drop_tables(lax)
    run_id = lax.app.tasks["celery_cascade.start"]("chain", {"n": 1})
    (message,) = lax.messages()
    assert message.headers["id"] == run_id
    assert receive_all(lax, [message]) == [4]
