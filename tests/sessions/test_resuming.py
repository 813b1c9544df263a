"""The resume task: what it takes, what it leaves, what it answers (R153)."""

from __future__ import annotations

from typing import Any

import pytest

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence.rows import StepKey
from celery_cascade.states import SessionStatus, can_move
from celery_cascade.tasks import overtime
from sessions.kit import Kit, cascade


def resume(kit: Kit, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """As Beat, a person or another program sends it."""
    found: dict[str, Any] = kit.app.tasks["celery_cascade.resume"](*args, **kwargs)
    return found


def poisoned(kit: Kit) -> Any:
    session = kit.start({"id": "a", "task": "add"})
    kit.store.halt(session.id, "suspended", "poisoned")  # type: ignore[arg-type]
    kit.store.settle(session.id)
    return session


def suspended(kit: Kit, reason: str) -> Any:
    session = kit.start("a", "b")
    session.suspend()
    kit.sql("UPDATE session_states SET status_reason = :reason WHERE session_id = :id", reason=reason, id=session.id)
    return session


def test_it_takes_what_waits_for_nobody_and_leaves_what_waits_for_a_person(any_kit: Kit) -> None:
    """R153: never operator, poisoned or in_doubt without force; the answer names each with its reason."""
    mine = {reason: suspended(any_kit, reason) for reason in ("operator", "poisoned", "in_doubt", "worker_lost")}
    failed = any_kit.run({"id": "a", "task": "broken"})
    answer = resume(any_kit)
    assert set(answer) == {"resumed", "skipped"}
    assert mine["worker_lost"].id in answer["resumed"]
    for reason in ("operator", "poisoned", "in_doubt"):
        assert answer["skipped"][mine[reason].id] == reason
        assert resume(any_kit, mine[reason].id) == {"resumed": [], "skipped": {mine[reason].id: reason}}
        assert mine[reason].status == "suspended"
    assert resume(any_kit, failed.id) == {"resumed": [], "skipped": {failed.id: "failed"}}
    again = resume(any_kit)  # idempotent
    assert mine["worker_lost"].id not in again["resumed"]
    for session in (mine["operator"], mine["poisoned"], mine["in_doubt"], failed):
        assert resume(any_kit, session.id, force=True) == {"resumed": [session.id], "skipped": {}}
        assert session.status == "active"
    any_kit.fix.add("fixed")
    any_kit.deliver()
    assert {session.status for session in (*mine.values(), failed)} == {"completed"}
    for session in (mine["operator"], failed):
        (skipped,) = resume(any_kit, session.id, force=True)["skipped"].values()
        assert "completed" in skipped


def test_it_takes_the_steps_of_dead_workers_and_messages_that_never_came(kit: Kit) -> None:
    """R153, R127, R134: orphans are queued again and sent, a lost message is sent again."""
    orphaned, lost = kit.start("a"), kit.start("x")
    assert kit.store.claim(StepKey(orphaned.id, "a"), attempt=1, token="t", worker="gone", runner="1.1")
    kit.messages()  # the broker is flushed
    kit.sql("UPDATE session_steps SET wake_at = '2001-01-01 00:00:00.000000' WHERE session_id = :id", id=lost.id)
    assert resume(kit) == {"resumed": [orphaned.id], "skipped": {}}
    kit.deliver()
    assert (orphaned.status, lost.status) == ("completed", "completed")
    assert [row["kind"] for row in orphaned.attempts] == ["crash"]
    assert sorted(kit.ran) == ["a/2", "x/1"]


def test_one_that_is_active_goes_on_anyway(kit: Kit) -> None:
    session = kit.start("a")
    assert resume(kit, session.id) == {"resumed": [], "skipped": {session.id: "active"}}
    with pytest.raises(SessionNotFound, match="nobody' not found"):
        resume(kit, "nobody")


def test_a_step_that_kills_its_worker_again_and_again_suspends_the_session(kit: Kit) -> None:
    """R134, D2: poisoned after cascade_max_crashes; a resume by hand gives it a fresh count."""
    kit.app.conf.cascade_max_crashes = 2
    session = kit.start("a", "b")
    for attempt in (1, 2):
        assert kit.store.claim(
            StepKey(session.id, "a"), attempt=attempt, token=f"t{attempt}", worker="gone", runner="1"
        )
        kit.recover()
    assert (session.status, session.reason) == ("suspended", "poisoned")
    session.resume()
    assert session.steps[0]["crashes"] == 0
    kit.deliver()
    assert session.status == "completed"


def test_a_late_writer_is_refused_after_a_release(kit: Kit) -> None:
    """D11, rule 2: a zombie's output counts for nothing, and its body runs again under the same key."""

    @kit.task("zombie")
    def zombie() -> str:
        if len(kit.ran) == 1:
            kit.sql("UPDATE session_steps SET worker = 'gone' WHERE status = 'running'")
            assert kit.recover().released == 1
            return "late"
        return "in time"

    session = kit.start({"id": "a", "task": "zombie"})
    kit.deliver()
    assert session.output == "in time"
    assert kit.ran == ["a/1", "a/2"]
    assert session.version == 3  # the start, one checkpoint, the end


@pytest.mark.parametrize("status", list(SessionStatus))
def test_statuses_are_a_closed_set_and_final_ones_refuse(kit: Kit, status: SessionStatus) -> None:
    """R39: an illegal value or move is refused, by SQL and by the API."""
    session = kit.start("a")
    if status is SessionStatus.COMPLETED:
        kit.deliver()
    elif status is SessionStatus.FAILED:
        session = kit.run({"id": "a", "task": "broken"})
    elif status is SessionStatus.CANCELLED:
        session.cancel()
    elif status is SessionStatus.SUSPENDED:
        session.suspend()
    elif status is SessionStatus.EXPIRED:
        kit.sql("UPDATE session_states SET expires_at = '2001-01-01 00:00:00.000000'")
        overtime.expire(kit.runtime)
    assert session.status == status
    with pytest.raises(Exception, match="CHECK"):
        kit.sql("UPDATE session_states SET status = 'generating'")
    for act, goal in ((session.cancel, SessionStatus.CANCELLED), (session.suspend, SessionStatus.SUSPENDED)):
        if can_move(status, goal):
            continue
        with pytest.raises(Exception, match=f"session {session.id} is {status.value}") as told:
            act()
        assert type(told.value).__name__ == "SessionConflict"
        assert f"cascade show {session.id}" in told.value.hint  # type: ignore[attr-defined]
    if status not in (SessionStatus.ACTIVE, SessionStatus.SUSPENDED, SessionStatus.FAILED):
        with pytest.raises(Exception, match=f"session {session.id}.*{status.value}"):
            session.resume()


def test_a_cancel_while_a_step_runs_lets_it_end_and_queues_nothing(kit: Kit) -> None:
    """R135: the output of the step that runs is kept; nothing follows."""

    @kit.task("cancels")
    def cancels() -> str:
        assert kit.cascades.session("mine").cancel("enough") == "active"
        return "kept"

    session = kit.run({"id": "a", "task": "cancels"}, "b", "c", session_id="mine")
    assert (session.status, session.reason) == ("cancelled", "enough")
    assert [(step["status"], step["output"]) for step in session.steps] == [
        ("succeeded", "kept"), ("cancelled", None), ("pending", None),
    ]  # fmt: skip
    assert session.to_dict()["progress"] == {"done": 1, "total": 3, "percent": 33}


def test_a_suspend_while_branches_run_waits_for_all_of_them(kit: Kit) -> None:
    """R71: each branch ends where it is, and a resume takes up every one of them."""

    @kit.task("suspends")
    def suspends() -> str:
        kit.cascades.session("mine").suspend()
        return "kept"

    branches = ("a", "b", "c")
    steps = [{"id": "root", "task": "suspends"}]
    steps += [{"id": one, "task": "add", "needs": ["root"]} for one in branches]
    steps += [{"id": f"{one}2", "task": "add", "needs": [one]} for one in branches]
    session = kit.run(
        *steps, {"id": "join", "task": "add", "needs": [f"{one}2" for one in branches]}, session_id="mine"
    )
    assert (session.status, session.reason) == ("suspended", "operator")
    assert resume(kit, "mine", force=True)["resumed"] == ["mine"]
    kit.deliver()
    assert session.status == "completed"
    assert set(kit.counts.values()) == {1}


def test_a_failure_beside_a_running_branch_lets_it_end(kit: Kit) -> None:
    """D11: what runs finishes and is checkpointed, then the session is failed; a resume repeats none of it."""
    given = cascade(
        {"id": "bad", "task": "broken", "needs": []},
        {"id": "good", "task": "add", "needs": []},
        {"id": "join", "task": "add", "needs": ["bad", "good"]},
    )
    session = kit.cascades.start(given)
    messages = {message.headers["cascade_step"]["step"]: message for message in kit.messages()}
    claimed = kit.store.claim(StepKey(session.id, "good"), attempt=1, token="t", worker="w", runner="1")
    assert claimed is not None
    kit.receive(messages["bad"])
    assert (session.status, session.to_dict()["reason"]) == ("active", "failed requested")
    assert session.to_dict()["progress"]["done"] == 0, "what failed is not done"
    kit.recover()  # its worker is gone: what it ran is parked, not queued
    assert session.status == "failed"
    kit.fix.add("fixed")
    session.resume()
    kit.deliver()
    assert session.status == "completed"
    assert kit.counts == {"bad": 2, "good": 1, "join": 1}
