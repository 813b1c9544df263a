"""A resume of what cannot be restored: told by session, step and column, and not one row is changed (R85)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from celery_cascade.errors import NotResumable, StoreError
from celery_cascade.persistence.models import Base
from celery_cascade.tasks import recovery
from sessions.kit import Kit
from sessions.test_damage import NOT_JSON

STEPS: tuple[Any, ...] = (
    "a",
    {"id": "b", "task": "broken"},
    {"id": "c", "task": "add", "with": {"x": "{{ outputs.a }}"}},
)


def everything(kit: Kit, session_id: str) -> dict[str, list[Any]]:
    """Every row of the session."""
    found = {}
    for table in Base.metadata.sorted_tables:
        if "session_id" in table.c:
            rows = kit.sql(f"SELECT * FROM {table.name} WHERE session_id = :id", id=session_id)
            found[table.name] = sorted(map(tuple, rows), key=repr)
    return found


def damage(kit: Kit, session_id: str, where: str) -> str:
    """Damage one value; returns what the error is to name."""
    column = where.partition(" ")[0]
    if where == "row of a":
        kit.sql("DELETE FROM session_steps WHERE session_id = :id AND step = 'a'", id=session_id)
        return "step 'a': its row is lost"
    if where.endswith("of a"):
        quoted = f"`{column}`" if kit.store.database.family == "mysql" else column  # CALL is a word of MySQL's
        kit.sql(f"UPDATE session_steps SET {quoted} = :text WHERE session_id = :id AND step = 'a'",
                text=NOT_JSON, id=session_id)  # fmt: skip
        return f"step 'a': its {column}"
    kit.sql("UPDATE session_states SET open_steps = 0 WHERE session_id = :id", id=session_id)
    return "its head says"


@pytest.mark.parametrize("where", ["output of a", "call of a", "row of a", "counters"])
def test_a_session_that_cannot_be_restored_is_told_and_left_as_it_is(any_kit: Kit, where: str) -> None:
    """R85: one corrupt checkpoint row: exit 5 and every row of the session unchanged."""
    failed, well = any_kit.run(*STEPS), any_kit.run(*STEPS)
    named = damage(any_kit, failed.id, where)
    before = everything(any_kit, failed.id)
    with pytest.raises(NotResumable, match=f"Failed to restore session {failed.id}: .*{named}") as told:
        failed.resume()
    assert told.value.exit_code == 5
    assert f"cascade resume {failed.id}" in told.value.hint
    assert everything(any_kit, failed.id) == before
    answer = any_kit.app.tasks["celery_cascade.resume"](failed.id, force=True)
    assert "Failed to restore" in answer["skipped"][failed.id]
    assert everything(any_kit, failed.id) == before
    any_kit.fix.add("fixed")
    well.resume()
    any_kit.deliver()
    assert well.status == "completed"


def test_a_definition_whose_bytes_were_changed_is_not_run(kit: Kit, make_kit: Any) -> None:
    """R85, R3: whatever it says now, it is not what was started."""
    failed = kit.run(*STEPS)
    for row in kit.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        kit.sql(f"DROP TRIGGER {row.name}")
    kit.sql("UPDATE cascade_definitions SET body = CAST(replace(body, 'broken', 'echo') AS BLOB)")
    later = make_kit(kit.url)
    before = everything(kit, failed.id)
    with pytest.raises(NotResumable, match=r"Failed to restore.*changed or damaged: its sha256"):
        later.cascades.session(failed.id).resume()
    assert everything(kit, failed.id) == before


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("session_states", "context_variables", NOT_JSON),
        ("session_states", "updated_at", "yesterday"),
        ("cascade_sessions", "created_at", "yesterday"),
        ("cascade_sessions", "tags", NOT_JSON),
        ("session_steps", "started_at", "yesterday"),
        ("session_steps", "output", NOT_JSON),
    ],
)
def test_one_bad_value_does_not_hide_the_other_sessions(
    kit: Kit, caplog: pytest.LogCaptureFixture, table: str, column: str, value: str
) -> None:
    """R121: lists show every session, recovery goes on with the rest, `doctor` names the row."""
    hurt, well = kit.run("a", tags=["x"]), kit.start("a", "b")
    for row in kit.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        kit.sql(f"DROP TRIGGER {row.name}")
    kit.sql(f"UPDATE {table} SET {column} = :value WHERE session_id = :id", value=value, id=hurt.id)
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        assert {session.id for session in kit.cascades.sessions()} == {hurt.id, well.id}
        recovery.recover(kit.runtime, witness=False)
        kit.deliver()
    assert well.status == "completed"
    if value == NOT_JSON:
        (bad,) = kit.store.unreadable()
        assert (bad.session, bad.table, bad.column) == (hurt.id, table, column)


def test_text_that_is_no_text_is_told_without_a_traceback_of_the_driver(kit: Kit) -> None:
    """R121: half of a character, as a disk gives it back."""
    session = kit.run("a")
    kit.sql("UPDATE session_steps SET output = CAST(x'22ff22' AS TEXT) WHERE session_id = :id", id=session.id)
    with pytest.raises(StoreError, match="output"):
        session.to_dict()


def test_doctor_finds_unreadable_values_on_every_database(any_kit: Kit) -> None:
    """R121: which session, step and column; the first twenty."""
    hurt = any_kit.run("a", "b")
    any_kit.sql("UPDATE session_steps SET output = 'x' WHERE session_id = :id AND step = 'b'", id=hurt.id)
    mine = [str(bad) for bad in any_kit.store.unreadable(limit=1000) if bad.session == hurt.id]
    assert mine == [f"session {hurt.id}: step 'b': session_steps.output is no JSON"]
    assert len(any_kit.store.unreadable(limit=1)) == 1
    any_kit.sql("UPDATE session_steps SET output = '1' WHERE session_id = :id AND step = 'b'", id=hurt.id)
