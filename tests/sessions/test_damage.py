"""A stored value that cannot be read any more: told by session and step, and nobody else has to suffer from it."""

from __future__ import annotations

import logging

import pytest

from celery_cascade.errors import StoreError
from celery_cascade.tasks import recovery
from celery_cascade.tasks.driver import drive
from sessions.kit import Kit

NOT_JSON = '{"half": '


def damage_output(kit: Kit, session_id: str, step: str, text: str = NOT_JSON) -> None:
    kit.sql("UPDATE session_steps SET output = :text WHERE session_id = :id AND step = :step",
            text=text, id=session_id, step=step)  # fmt: skip


def damage_inputs(kit: Kit, session_id: str, text: str = NOT_JSON) -> None:
    """SQL itself refuses this (R28): it takes a disk, or somebody who drops the trigger."""
    for row in kit.sql("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'cascade_sessions'"):
        kit.sql(f"DROP TRIGGER {row.name}")
    kit.sql("UPDATE cascade_sessions SET input_data = :text WHERE session_id = :id", text=text, id=session_id)


def test_an_output_that_cannot_be_read_is_told_by_session_and_step(any_kit: Kit) -> None:
    """R121, R150: no raw traceback; the session is still listed, and the others are as they were."""
    hurt, well = any_kit.run("a", "b"), any_kit.run("a", "b")
    damage_output(any_kit, hurt.id, "a")
    with pytest.raises(StoreError, match=f"session {hurt.id}: step 'a': its output cannot be read") as told:
        hurt.to_dict()
    assert "cascade doctor" in told.value.hint
    assert (hurt.status, hurt.output) == ("completed", 1)
    assert well.to_dict()["output"] == 1
    assert {hurt.id, well.id} <= {session.id for session in any_kit.cascades.sessions()}


def test_the_output_of_a_session_that_cannot_be_read_is_told(kit: Kit) -> None:
    """R121: whoever asks for it gets the session's name; so with its error and its inputs."""
    session = kit.run("a")
    for column in ("output", "error"):
        kit.sql(f"UPDATE session_states SET {column} = '{NOT_JSON}'")
        with pytest.raises(StoreError, match=f"session {session.id}: its {column} cannot be read"):
            session.to_dict()
        if column == "output":
            with pytest.raises(StoreError, match=f"session {session.id}: its output: a stored value cannot be read"):
                session.result(0)
        kit.sql(f"UPDATE session_states SET {column} = NULL")
    failed = kit.run({"id": "a", "task": "broken"})
    kit.sql(f"UPDATE session_states SET error = '{NOT_JSON}' WHERE session_id = '{failed.id}'")
    with pytest.raises(Exception, match=f"session {failed.id} failed: its error cannot be read"):
        failed.result(0)
    damage_inputs(kit, session.id)
    for look in (session.to_dict, lambda: session.inputs):
        with pytest.raises(StoreError, match=f"session {session.id}: its inputs"):
            look()


def test_tags_that_cannot_be_read_do_not_hide_a_list(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R121: one bad row does not hide the others."""
    session = kit.start("a", tags=["x"])
    for row in kit.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        kit.sql(f"DROP TRIGGER {row.name}")
    kit.sql(f"UPDATE cascade_sessions SET tags = '{NOT_JSON}'")
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        assert session.to_dict()["tags"] == []
    assert session.id in caplog.text


def test_a_step_that_needs_a_damaged_output_fails_and_goes_on_after_repair(kit: Kit) -> None:
    """R121: a value that does not decode quarantines itself: what ends now is checkpointed, who asks for it fails."""
    for needs in (["b"], ["a", "b"]):
        session = kit.start("a", "b", {"id": "c", "task": "add", "needs": needs, "with": {"x": "{{ outputs.a }}"}})
        (message,) = kit.messages()
        kit.receive(message)
        damage_output(kit, session.id, "a")
        kit.deliver()
        statuses = {row["step"]: row["status"] for row in kit.store.steps(session.id)}
        assert statuses == {"a": "succeeded", "b": "succeeded", "c": "failed"}
        assert session.status == "failed"
        with pytest.raises(Exception, match=f"step 'c'.*session {session.id}: the output of step 'a'"):
            session.result(0)
        damage_output(kit, session.id, "a", "41")
        session.resume()
        kit.deliver()
        assert session.output == 42
    assert kit.counts == {"a": 2, "b": 2, "c": 2}


def test_a_damaged_leaf_fails_the_session_alone(kit: Kit) -> None:
    """R85: nothing of what is stored is changed by it, and a resume after the repair runs no step."""

    @kit.task("damages")
    def damages() -> int:
        damage_output(kit, "mine", "a")
        return 2

    session = kit.run(
        {"id": "a", "task": "add", "needs": []}, {"id": "b", "task": "damages", "needs": []}, session_id="mine"
    )
    assert session.status == "failed"
    statuses = {row["step"]: row["status"] for row in kit.store.steps(session.id)}
    assert statuses == {"a": "succeeded", "b": "succeeded"}
    damage_output(kit, "mine", "a", "1")
    session.resume()
    assert (session.status, session.output) == ("completed", {"a": 1, "b": 2})
    assert kit.counts == {"a": 1, "b": 1}


def test_damaged_arguments_fail_the_step_before_its_body(kit: Kit) -> None:
    """R121: not left running for ever, not taken for a crash."""
    session = kit.start("a", {"id": "b", "task": "add", "with": {"x": 1}})
    kit.sql("UPDATE session_steps SET call = :text WHERE session_id = :id", text=NOT_JSON, id=session.id)
    kit.deliver()
    assert session.status == "failed"
    error = session.to_dict()["error"]
    assert (error["step"], error["type"]) == ("a", "celery_cascade.errors.StoreError")
    assert kit.ran == []
    assert session.steps[0]["crashes"] == 0


def test_a_session_with_damaged_inputs_does_not_hold_up_the_others(
    kit: Kit, make_kit: type[Kit], caplog: pytest.LogCaptureFixture
) -> None:
    """R121: its own messages are dropped with its name; sweeps, resumes and other sessions go on."""
    hurt, well = kit.start("a"), kit.start("a")
    ended = kit.start({"id": "z", "task": "add", "timeout": "1h"})
    damage_inputs(kit, hurt.id)
    later = make_kit(kit.url)
    later.app.conf.task_default_queue = kit.queue
    later.queue = kit.queue
    with caplog.at_level(logging.ERROR, "celery_cascade"):
        later.deliver()
    assert f"session {hurt.id}: step a not claimed" in caplog.text
    assert (hurt.status, well.status, ended.status) == ("active", "completed", "completed")
    # every step of it has ended, but its end was not written: that is tried at each sweep
    kit.sql("DELETE FROM session_steps WHERE session_id = :id", id=hurt.id)
    kit.sql("UPDATE session_states SET open_steps = 0 WHERE session_id = :id", id=hurt.id)
    report = recovery.recover(later.runtime, witness=False)
    assert report.settled == 1
    found = later.cascades.session(hurt.id)
    assert found.status == "failed"
    with pytest.raises(Exception, match=f"session {hurt.id}: its inputs"):
        found.result(0)
    with pytest.raises(StoreError, match=f"session {hurt.id}: its inputs"):
        drive(later.runtime, hurt.id)


def test_the_same_call_for_a_damaged_session_is_told_and_changes_nothing(kit: Kit, make_kit: type[Kit]) -> None:
    """R85: "Failed to restore": an error that names the session, every row as it was."""
    session = kit.start("a", "b", session_id="mine")
    kit.store.delete_session(kit.start("x").id)
    damage_inputs(kit, session.id, '{"__type__": "unheard-of", "__value__": 1}')
    later = make_kit(kit.url)
    before = kit.sql("SELECT * FROM session_steps"), kit.sql("SELECT * FROM session_states")
    with pytest.raises(Exception, match="session mine") as told:
        later.run("a", "b", session_id="mine")
    assert not isinstance(told.value, (ValueError, KeyError))
    assert (kit.sql("SELECT * FROM session_steps"), kit.sql("SELECT * FROM session_states")) == before
