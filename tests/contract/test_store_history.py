"""Every version of a session is borne by a row, whichever way the session went (R23)."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select, update

from celery_cascade.persistence import tables
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.tables import attempts, heads
from celery_cascade.states import Halt, SuspendReason
from contract.kit import NOON, Kit, queued

ANN = "ann"


def gaps(kit: Kit, session: str) -> list[int]:
    """The versions from 2 on that no row bears; a plain completion is borne by the head."""
    head = kit.head(session)
    borne = {head["version"]} if head["status"] == "completed" else set()
    for table in (tables.steps, tables.attempts, tables.actions, tables.messages, tables.context_changes):
        borne |= set(kit.column(select(table.c.version).where(table.c.session_id == session).subquery().c.version))
    return sorted(set(range(2, head["version"] + 1)) - borne)


def suspend(kit: Kit, session: str) -> None:
    kit.store.halt(session, Halt.SUSPENDED, "operator", Action(action="suspend", actor=ANN, reason="lunch"))
    assert kit.store.settle(session) == "suspended"


def noted(kit: Kit, session: str) -> list[tuple[int, str, str | None]]:
    return [(row["version"], row["action"], row["actor"]) for row in kit.store.past(session).actions]


@pytest.mark.parametrize("end", [Halt.CANCELLED, Halt.EXPIRED])
def test_a_session_that_was_suspended_and_then_called_off_has_no_gap(kit: Kit, end: Halt) -> None:
    """R23: the suspension was borne by the head alone, which changed again."""
    session = kit.start(queued("a", "b"))
    kit.run(session)
    suspend(kit, session)
    kit.store.halt(session, end, None)
    assert kit.store.settle(session) == end.value

    assert gaps(kit, session) == []
    asked = {Halt.CANCELLED: "cancel", Halt.EXPIRED: "expire"}[end]
    engine = "celery_cascade"
    assert noted(kit, session) == [
        (3, "suspend", ANN), (4, "suspended", engine), (5, asked, engine), (6, end.value, engine),
    ]  # fmt: skip


def test_a_failed_session_that_is_cancelled_has_no_gap(kit: Kit) -> None:
    """R23."""
    session = kit.start()
    kit.fail(kit.claim(session))
    assert kit.store.settle(session) == "failed"
    kit.store.halt(session, Halt.CANCELLED, "enough", Action(action="cancel", actor=ANN))
    assert kit.store.settle(session) == "cancelled"
    assert gaps(kit, session) == []


def test_a_session_that_fails_twice_has_no_gap_and_knows_which_attempts_ended_the_step(kit: Kit) -> None:
    """R23: the row of the step is overwritten by each resume; the attempts' rows say when it had failed."""
    session = kit.start()
    kit.fail(kit.claim(session), 1.0)
    kit.clock.forward(1)
    kit.fail(kit.claim(session))
    kit.store.settle(session)
    kit.store.revive(session, Action(action="resume", actor=ANN))
    kit.fail(kit.claim(session))
    kit.store.settle(session)
    kit.store.revive(session)
    kit.run(session)
    kit.complete(session)

    assert gaps(kit, session) == []
    assert kit.column(select(attempts.c.ended_step).order_by(attempts.c.attempt).subquery().c.ended_step) == [0, 1, 1]
    words = [word for _, word, _ in noted(kit, session)]
    assert words == ["failed", "resume", "failed", "resumed"], "nobody asked for the second resume"


def test_an_output_that_cannot_be_made_is_noted_with_its_error(kit: Kit) -> None:
    """R23: the error is gone from the head once somebody resumes."""
    session = kit.start()
    kit.run(session)
    kit.store.settle(session, error='{"message":"no such name"}')
    kit.store.revive(session, Action(action="resume"))
    kit.complete(session)
    assert gaps(kit, session) == []
    assert kit.store.past(session).actions[0]["detail"] == '{"message":"no such name"}'


def test_keeping_a_completed_session_notes_when_it_completed(kit: Kit) -> None:
    """R23: the completion was borne by the head alone."""
    session = kit.start()
    kit.run(session)
    kit.complete(session)
    assert gaps(kit, session) == []
    assert noted(kit, session) == [], "no row more for the way that most sessions go"
    kit.clock.forward(3600)
    kit.store.pin(session, True, Action(action="keep", actor=ANN))
    kit.store.pin(session, False)

    assert gaps(kit, session) == []
    rows = kit.store.past(session).actions
    assert [(row["version"], row["action"]) for row in rows] == [(3, "completed"), (4, "keep"), (5, "unkeep")]
    assert rows[0]["done_at"] == NOON


def test_a_parked_step_tells_why_and_what_follows_has_no_gap(kit: Kit) -> None:
    """R23: the reason is gone from head and step once somebody has answered."""
    session = kit.start(queued("a", "b"))
    kit.claim(session), kit.claim(session, "b")
    kit.store.park(kit.orphan(session), reason=SuspendReason.IN_DOUBT, error='{"message":"gone"}')
    kit.store.park(kit.orphan(session, "b"), reason=None)
    assert kit.store.settle(session) == "suspended"
    kit.store.halt(session, Halt.CANCELLED, None)
    kit.store.settle(session)
    assert gaps(kit, session) == []
    (parked, *_) = kit.store.past(session).actions
    assert (parked["action"], parked["reason"]) == ("parked", "in_doubt")
    assert json.loads(parked["detail"]) == {"step": "a", "item": -1, "crash": True}


def test_what_nobody_asked_for_is_not_listed_as_asked(kit: Kit) -> None:
    """R23: `show` lists what people did."""
    session = kit.start()
    suspend(kit, session)
    assert [row["action"] for row in kit.store.actions(session)] == ["suspend"]


def test_mended_times_and_a_new_head_are_versions_with_a_row(kit: Kit) -> None:
    """R23, R119."""
    session = kit.start()
    kit.run(session)
    kit.complete(session)
    broken = update(heads).where(heads.c.session_id == session).values(finished_at=NOON.replace(year=1970))
    kit.database.transaction(lambda conn: conn.execute(broken))
    assert kit.store.mend_times() == [session]
    assert gaps(kit, session) == []
    assert [word for _, word, _ in noted(kit, session)] == ["completed", "mended"]

    other = kit.start()
    kit.fail(kit.claim(other), 1.0)
    kit.store.halt(other, Halt.SUSPENDED, "operator", Action(action="suspend", actor=ANN))
    kit.database.transaction(lambda conn: conn.execute(heads.delete().where(heads.c.session_id == other)))
    kit.store.add_head(other, total=1, closed=0, done=0)
    assert kit.head(other)["version"] == 4, "no version of the lost head is used again"
    assert gaps(kit, other) == []
