"""A cascade run here and now: what comes out, and what is known of it afterwards, on each of the databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from celery_cascade import current_session, run_cascade
from celery_cascade.errors import (
    NotResumable,
    SessionConflict,
    SessionFailed,
    SessionNotFound,
    SessionTimeout,
    UsageError,
)
from sessions.kit import CHAIN, Kit, cascade

DIAMOND = """\
cascade: diamond
inputs: {n: integer}
steps:
  - {id: first, task: add, with: {x: "{{ inputs.n }}"}}
  - {id: left, needs: [first], task: add, with: {x: "{{ outputs.first }}", y: 10}}
  - {id: right, needs: [first], task: add, with: {x: "{{ outputs.first }}", y: 100}}
  - {id: join, needs: [left, right], task: echo, with: [["{{ outputs.left }}", "{{ outputs.right }}"]]}
"""


# -- on all three databases
def test_a_diamond_runs_to_its_end_and_every_step_once(any_kit: Kit) -> None:
    """R69, R41: current_step is the number of checkpointed steps; no body runs twice."""
    session = any_kit.cascades.run(any_kit.file(DIAMOND), {"n": 1})
    assert session.status == "completed"
    assert session.output == [12, 102]
    assert sorted(any_kit.ran) == ["first/1", "join/1", "left/1", "right/1"]
    shown = session.to_dict()
    assert (shown["current_step"], shown["current_phase"]) == (4, "join")
    assert shown["progress"] == {"done": 4, "total": 4, "percent": 100}


def test_a_failed_session_goes_on_where_it_failed_once_the_code_is_fixed(any_kit: Kit) -> None:
    """R69, R82: what was checkpointed is not run again, the failed step runs on the code of now, then what follows."""
    session = any_kit.run("a", {"id": "b", "task": "broken", "with": {"value": "{{ outputs.a }}"}}, "c")
    assert session.status == "failed"
    assert [step["status"] for step in session.steps] == ["succeeded", "failed", "pending"]
    any_kit.fix.add("fixed")
    session.resume()
    any_kit.deliver()
    assert session.status == "completed"
    assert any_kit.ran == ["a/1", "b/1", "b/2", "c/1"]
    assert session.steps[1]["output"] == 1


def test_checkpoint_numbers_rise_and_go_on_after_a_resume(any_kit: Kit) -> None:
    """R66, D13: the number is the session's version, written <session>_ckpt_<n>, never given twice."""
    session = any_kit.run("a", "b", {"id": "c", "task": "broken"}, "d")
    before = session.checkpoints
    any_kit.fix.add("fixed")
    session.resume()
    any_kit.deliver()
    after = session.checkpoints
    assert after[: len(before)] == before
    numbers = [point["number"] for point in after]
    assert [point["step"] for point in after] == ["a", "b", "c", "d"]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= session.version
    assert [point["checkpoint"] for point in after] == [f"{session.id}_ckpt_{number}" for number in numbers]


def test_a_retry_waits_and_then_succeeds_with_the_same_idempotency_key(any_kit: Kit) -> None:
    """D11: the key is `session:step:item`, the same in every attempt."""
    keys = []

    @any_kit.task("flaky")
    def flaky() -> str:
        session = current_session()
        assert session is not None
        keys.append(session.idempotency_key)
        if session.attempt < 3:
            raise OSError("not yet")
        return "at last"

    step = {"id": "a", "task": "flaky", "retry": {"max_attempts": 3, "delay": "0.05s", "backoff": "none"}}
    session = any_kit.run(step)
    assert session.output == "at last"
    assert keys == [f"{session.id}:a:0"] * 3
    assert any_kit.ran == ["a/1", "a/2", "a/3"]
    assert [(row["attempt"], row["kind"]) for row in session.attempts] == [(1, "failure"), (2, "failure")]


def test_cancel_suspend_and_resume_do_what_they_say(any_kit: Kit) -> None:
    """R135: asked at any time, honoured at the next step boundary; final states refuse, by name."""
    session = any_kit.start("a", "b")
    assert session.suspend(actor="ann") == "suspended"
    assert session.reason == "operator"
    assert any_kit.deliver() == 1  # its message is out, and finds nothing to do
    assert any_kit.ran == []
    session.resume(actor="ann")
    assert session.status == "active"
    any_kit.deliver()
    assert session.result(0) == 1
    with pytest.raises(SessionConflict, match=f"session {session.id} is completed"):
        session.cancel()
    other = any_kit.start("a", "b")
    assert other.cancel("not wanted") == "cancelled"
    with pytest.raises(NotResumable, match="is cancelled"):
        other.resume()
    with pytest.raises(SessionFailed, match=r"cancelled: not wanted"):
        other.result(0)
    actions = [(row["action"], row["actor"], row["reason"]) for row in any_kit.store.actions(session.id)]
    assert actions == [("suspend", "ann", None), ("resume", "ann", None)]


def test_one_row_by_plain_sql_with_the_inputs_as_json(any_kit: Kit) -> None:
    """R14: SELECT … WHERE session_id = ? gives one row, and json.loads(input_data) equals the inputs."""
    inputs = {"name": "Zoë ☃", "deep": [1, {"a": None}]}
    session = any_kit.cascades.start(cascade("a"), inputs)
    found = any_kit.sql(
        "SELECT session_id, cascade_id, input_data FROM cascade_sessions WHERE session_id = :id", id=session.id
    )
    assert [(row.session_id, row.cascade_id, json.loads(row.input_data)) for row in found] == [
        (session.id, "test", inputs)
    ]


def test_an_id_that_is_sql_finds_nothing_and_harms_nothing(any_kit: Kit) -> None:
    """R30: every statement is parameterised; hostile text is an id that is not there, or is refused by its rule."""
    session = any_kit.start("a")
    hostile = ["x' OR '1'='1", "'; DROP TABLE cascade_sessions; --", "%", "_" * 36, "\\", "a\x00b", "\ud800", "é" * 40]
    for text in hostile:
        with pytest.raises(SessionNotFound, match=r"not found\. Available sessions: \d+"):
            any_kit.cascades.session(text)
        for filters in ({"cascade": text}, {"mode": text}, {"resource_id": text}):
            if "\x00" in text or "\ud800" in text:
                continue
            assert list(any_kit.cascades.sessions(**filters)) == []
        with pytest.raises(SessionNotFound):
            any_kit.app.tasks["celery_cascade.resume"](text)
        if text != "_" * 36:  # that one is a possible id
            with pytest.raises(UsageError, match="1 to 36 characters"):
                any_kit.start("a", session_id=text)
        session.suspend(reason=text.replace("\x00", "").replace("\ud800", "") or "x", actor="'; --")
        session.resume()
    any_kit.deliver()
    assert session.status == "completed"


def test_names_and_reasons_that_no_database_takes_are_refused(any_kit: Kit) -> None:
    """R150: a usage error that names the value, before anything is written."""
    before = any_kit.rows()
    for options in ({"name": "a\x00"}, {"thread_id": "\ud800"}, {"tags": ["\x00"]}, {"mode": "m" * 51}, {"name": ""}):
        with pytest.raises(UsageError, match=next(iter(options)).rstrip("s")):
            any_kit.start("a", **options)
    assert any_kit.rows() == before
    session = any_kit.start("a")
    with pytest.raises(UsageError, match="reason is"):
        session.cancel("\x00")
    assert session.status == "active"


def test_two_handles_and_a_new_process_see_the_same_session(any_kit: Kit, make_kit: Any) -> None:
    """R52: nothing is kept in memory: what a new process reads is what the old one had."""
    session = any_kit.run("a", {"id": "b", "task": "broken"}, tags=["x"], name="mine", mode="test")
    later = make_kit(any_kit.url)
    found = later.cascades.session(session.id)
    assert found.to_dict() == session.to_dict()
    assert found.definition == session.definition
    later.fix.add("fixed")
    found.resume()
    later.deliver()
    assert session.status == "completed"
    assert later.ran == ["b/2"]


def test_an_expired_session_ends_whatever_it_was_doing(any_kit: Kit) -> None:
    """R45: three defined outcomes. Queued: nothing runs any more. Suspended: ends at once. Running: the step that
    runs still ends and is checkpointed, then the session is `expired`. None of them can be resumed.
    """

    @any_kit.task("expires")
    def expires() -> str:
        _expire(any_kit, running.id)
        any_kit.app.tasks["celery_cascade.expire"]()
        assert running.status == "active"
        return "done"

    queued = any_kit.start("a", "b", expires_in=timedelta(hours=1))
    waiting = any_kit.start("a", "b", expires_in=3600)
    waiting.suspend()
    running = any_kit.start({"id": "a", "task": "expires"}, "b", expires_in=3600)
    for session in (queued, waiting):
        assert session.to_dict()["expires_at"] is not None
        _expire(any_kit, session.id)
    with pytest.raises(NotResumable, match="expired"):
        waiting.resume()
    assert (queued.status, waiting.status) == ("active", "expired")  # the resume itself brought it to its end
    assert any_kit.app.tasks["celery_cascade.expire"]() == {"expired": 1}
    any_kit.deliver()
    assert (queued.status, waiting.status, running.status) == ("expired",) * 3
    assert any_kit.ran == ["a/1"]  # of the one that ran
    assert [step["status"] for step in running.steps] == ["succeeded", "cancelled"]
    assert [step["status"] for step in queued.steps] == ["cancelled", "pending"]
    assert queued.to_dict()["progress"]["done"] == 0
    for session in (queued, waiting, running):
        with pytest.raises(NotResumable, match="expired"):
            session.resume()
        with pytest.raises(SessionFailed, match="expired"):
            session.result(0)


def _expire(kit: Kit, session_id: str) -> None:
    past = datetime.now(UTC) - timedelta(seconds=5)
    form = past.strftime("%Y-%m-%d %H:%M:%S.%f")
    kit.sql("UPDATE session_states SET expires_at = :past WHERE session_id = :id", past=form, id=session_id)


def test_definition_and_inputs_cannot_be_changed_any_more(any_kit: Kit) -> None:
    """R3, R9: what is stored is what runs; SQL itself refuses to change it."""
    session = any_kit.run("a")
    with pytest.raises(DBAPIError):
        any_kit.sql("UPDATE cascade_sessions SET input_data = '[]' WHERE session_id = :id", id=session.id)
    assert session.inputs == {}


# -- on SQLite
def test_a_session_as_data_has_these_keys(kit: Kit) -> None:
    """R112, R124, R96: everything a state carries, as JSON without `default=`; times are ISO-8601 with a Z."""
    session = kit.cascades.run(kit.file(CHAIN), {"n": 4})
    shown = session.to_dict()
    assert list(shown) == [
        "session_id", "cascade_id", "name", "status", "reason", "mode", "current_phase", "current_step", "progress",
        "can_resume", "kept", "version", "thread_id", "resource_id", "tags",
        "trigger", "forked_from", "forked_step", "continues", "created_at", "started_at", "updated_at",
        "finished_at", "expires_at", "completed_steps", "inputs", "output", "error", "definition_sha256",
        "config_path", "parent_session_id", "depth", "checkpoints", "steps", "waits_for", "actions",
    ]  # fmt: skip
    assert list(shown["steps"][0]) == [
        "step", "item", "status", "reason", "phase", "attempt", "crashes", "task", "worker", "started_at",
        "finished_at", "output", "error",
    ]  # fmt: skip
    assert shown["completed_steps"] == ["a", "b", "c"]
    assert (shown["inputs"], shown["output"], shown["error"]) == ({"n": 4}, 7, None)
    assert json.loads(json.dumps(shown)) == shown
    for name in ("created_at", "started_at", "updated_at", "finished_at"):
        assert datetime.fromisoformat(shown[name]).tzinfo is not None
        assert shown[name].endswith("Z")


def test_progress_is_told_while_it_runs(kit: Kit) -> None:
    """R41: `init` first, then the phase of each step or its id, and how many are done."""
    seen = []

    @kit.task("looks")
    def looks() -> None:
        session = current_session()
        assert session is not None
        shown = kit.cascades.session(session.id).to_dict()
        seen.append((shown["current_phase"], shown["current_step"], shown["steps"][len(seen)]["status"]))

    kit.run({"id": "a", "task": "looks", "phase": "Taking stock"}, {"id": "b", "task": "looks"}, "c")
    assert seen == [("init", 0, "running"), ("Taking stock", 1, "running")]


def test_each_run_gets_an_id_of_its_own(kit: Kit) -> None:
    """R58: without an id each run is a new session."""
    first, second = kit.run("a"), kit.run("a")
    assert first.id != second.id
    assert len(first.id) == 36
    assert [session.id for session in kit.cascades.sessions()] == [second.id, first.id]


def test_the_same_id_goes_on_and_anything_else_is_a_conflict(kit: Kit) -> None:
    """R12, D13: same definition and inputs, unfinished: it goes on. Else a conflict that names rerun and fork."""
    path = kit.file(CHAIN)
    started = kit.cascades.start(path, {"n": 1}, session_id="mine")
    assert kit.cascades.start(path, {"n": 1}, session_id="mine") == started
    before = kit.rows()
    with pytest.raises(SessionConflict, match="session mine exists already and has another definition") as told:
        kit.cascades.start(path, {"n": 2}, session_id="mine")
    assert "rerun" in told.value.hint
    assert "fork" in told.value.hint
    assert kit.rows() == before
    assert run_cascade(path, {"n": 1}, session_id="mine", app=kit.app) == 4
    with pytest.raises(SessionConflict, match=r"has ended \(completed\)"):
        kit.cascades.run(path, {"n": 1}, session_id="mine")
    assert kit.counts == {"a": 1, "b": 1, "c": 1}


def test_the_order_of_keys_makes_no_other_session(kit: Kit) -> None:
    """R12: inputs are the same whatever order they are given in."""
    kit.cascades.start(cascade("a"), {"x": 1, "y": {"b": 1, "a": 2}}, session_id="mine")
    kit.cascades.start(cascade("a"), {"y": {"a": 2, "b": 1}, "x": 1}, session_id="mine")
    with pytest.raises(SessionConflict):
        kit.cascades.start(cascade("a"), {"y": {"a": 2, "b": 1}, "x": True}, session_id="mine")


def test_a_failed_session_of_that_id_says_how_to_go_on(kit: Kit) -> None:
    """R12, R150: the conflict names the command that resumes it."""
    kit.run({"id": "a", "task": "broken"}, session_id="mine")
    with pytest.raises(SessionConflict, match="cascade resume mine"):
        kit.run({"id": "a", "task": "broken"}, session_id="mine")


def test_an_idempotency_key_starts_once(kit: Kit) -> None:
    """D11: a second start with the same key is a conflict that names the first session."""
    first = kit.start("a", idempotency_key="order-7")
    before = kit.rows()
    with pytest.raises(SessionConflict, match=first.id):
        kit.start("a", idempotency_key="order-7")
    assert kit.rows() == before


def test_run_cascade_returns_the_output_and_raises_for_a_failure(kit: Kit) -> None:
    """R13: the result itself; a failure is a SessionFailed with step, error and the next command."""
    assert run_cascade(cascade("a", "b"), app=kit.app) == 1
    with pytest.raises(SessionFailed) as told:
        run_cascade(cascade({"id": "b", "task": "broken"}), app=kit.app, session_id="mine")
    assert told.value.message == "session mine failed: step 'b': ValueError: fixed is not there"
    assert "cascade resume mine" in told.value.hint
    assert "cascade show mine" in told.value.hint


def test_result_says_why_there_is_none(kit: Kit) -> None:
    """R150: suspended, not done in time: what, which id, the next command."""
    session = kit.start("a")
    with pytest.raises(SessionTimeout, match=f"session {session.id} is not done after 0.05 s") as late:
        session.result(timeout=0.05)
    assert f"cascade watch {session.id}" in late.value.hint
    assert not session.ready()
    session.suspend()
    with pytest.raises(NotResumable, match=r"is suspended \(operator\)") as told:
        session.get()
    assert f"cascade resume {session.id}" in told.value.hint


def test_lists_filter_by_our_words_and_others(kit: Kit) -> None:
    """D2, R40: statuses of other systems are understood; a wrong word is refused with the right ones."""
    done = kit.run("a", mode="nightly")
    failed = kit.run({"id": "a", "task": "broken"})
    active = kit.start("a", resource_id="ann")
    suspended = kit.start("a")
    suspended.suspend()

    def found(**filters: Any) -> list[str]:
        return [session.id for session in kit.cascades.sessions(**filters)]

    assert found(status="completed") == [done.id]
    assert found(status="error") == [failed.id]
    assert found(status=["running", "blocked"]) == [suspended.id, active.id]
    assert found(mode="nightly") == [done.id]
    assert found(resource_id="ann") == [active.id]
    assert found(limit=1) == [suspended.id]
    assert found(since=datetime.now(UTC) + timedelta(hours=1)) == []
    with pytest.raises(UsageError, match="'bogus' is no session status") as told:
        kit.cascades.sessions(status="bogus")  # at once, not when somebody looks
    assert "completed" in str(told.value)
    for wrong in ({"limit": -1}, {"since": datetime(2026, 1, 1)}, {"limit": "3"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            kit.cascades.sessions(**wrong)
