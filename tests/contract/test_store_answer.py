"""An operator's answer for a parked step: its end and what follows in one transaction, once, whoever else answers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from celery_cascade.errors import ClaimLost, NotResumable, SessionConflict, SessionNotFound
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Answer, Answered, Checkpoint, Setback, StepKey
from celery_cascade.states import Halt, SuspendReason
from contract.kit import NOON, Kit, joins, queued, skipped, worker_row
from contract.test_races import at_once
from contract.traffic import deadlock_at, lost_answers, watched

IN_DOUBT, POISONED = SuspendReason.IN_DOUBT, SuspendReason.POISONED


def parked(kit: Kit, *steps: str, session: str | None = None, reason: SuspendReason = IN_DOUBT, **more: Any) -> str:
    """A session of which these steps are parked, and which is suspended for it."""
    session = session or kit.start([*queued(*steps), *joins(j=2)], **({"total": len(steps) + 3} | more))
    for step in steps:
        kit.claim(session, step, token=f"token of {step}")
        assert kit.store.park(kit.orphan(session, step), reason=reason, error=f'{{"step":"{step}"}}')
    kit.store.settle(session)
    return session


def done(session: str, step: str = "a", **more: Any) -> Answer:
    """It has done its work: d follows, e is skipped, j hears of it."""
    nonce = uuid.uuid4().hex
    values: dict[str, Any] = {
        "status": "succeeded", "output": '"told"', "closed": 2, "queued": queued("d"), "skipped": skipped("e"),
        "arrivals": {"j": 1}, "phase": step,
    }  # fmt: skip
    end = Checkpoint(key=StepKey(session, step), token=nonce, **(values | more))
    return Answer(key=end.key, attempt=2, nonce=nonce, done=end)


def again(session: str, step: str = "a", attempt: int = 2) -> Answer:
    return Answer(key=StepKey(session, step), attempt=attempt, nonce=uuid.uuid4().hex)


def answer(kit: Kit, given: Answer, actor: str = "ann") -> Answered:
    word = "again" if given.done is None else "done"
    detail = json.dumps({"step": given.key.step, "answer": word, "attempt": given.attempt - 1})
    return kit.store.answer(given, Action(action="resume", actor=actor, detail=detail), worker="w2")


def test_a_claim_says_what_its_crash_means_and_every_end_forgets_it(kit: Kit) -> None:
    """Whoever finds the orphan reads it in the row."""
    session = kit.start(queued("a", "b", "c", "d"))
    for step, word in (("a", "ask"), ("b", "fail"), ("c", "ask"), ("d", None)):
        key = StepKey(session, step)
        assert kit.store.claim(key, attempt=1, token=f"t{step}", worker="gone", runner="r", on_crash=word)
    found = {orphan.key.step: orphan.on_crash for orphan in kit.store.orphans(silent_for=None)}
    assert found == {"a": "ask", "b": "fail", "c": "ask", "d": None}
    kit.store.release(kit.orphan(session, "a"), error=None)
    key = StepKey(session, "b")
    kit.store.checkpoint(Checkpoint(key=key, token="tb", status="succeeded", output="1", phase="b", closed=1))
    kit.store.setback(Setback(key=StepKey(session, "c"), token="tc", kind="crash", delay=None, error="{}"))
    kit.store.park(kit.orphan(session, "d"), reason=None)
    assert {row["step"]: row["reason"] for row in kit.store.steps(session)} == dict.fromkeys("abcd")
    assert kit.row(session, "c")["crashes"] == 1


def test_a_crash_that_fails_a_step_asks_for_token_and_silence(kit: Kit) -> None:
    """As a release does: no worker that beats again loses its step."""
    kit.store.add_worker(worker_row("w1"))
    session = kit.start()
    kit.claim(session, token="mine", worker="w1")
    fails = Setback(key=StepKey(session, "a"), token="mine", kind="crash", delay=None, error="{}", silent_for=15)
    with pytest.raises(ClaimLost):
        kit.store.setback(fails)
    assert kit.statuses(session) == {"a": "running"}
    kit.clock.forward(16)
    assert kit.store.setback(fails).halt == "failed"
    assert kit.statuses(session) == {"a": "failed"}
    assert [row["kind"] for row in kit.store.attempts(session)] == ["crash"]
    kit.check(session)


def test_a_parked_step_bears_its_reason_and_what_happened(kit: Kit) -> None:
    session = parked(kit, "a")
    row, head = kit.row(session), kit.store.session(session)
    assert (row["status"], row["reason"], row["error"], row["attempt"]) == ("pending", "in_doubt", '{"step":"a"}', 2)
    assert (head["status"], head["status_reason"], head["error"]) == ("suspended", "in_doubt", '{"step":"a"}')
    kit.check(session)


def test_done_is_a_checkpoint_and_a_resume_in_one_transaction(kit: Kit) -> None:
    """Rule 3: output, followers, arrivals and head move by one version."""
    session = parked(kit, "a")
    before = kit.head(session)["version"]
    found = answer(kit, done(session))
    assert found.left == ()
    assert [(step.key.step, step.attempt) for step in found.queued] == [("d", 1)]
    head, rows = kit.store.session(session), kit.rows(session)
    assert (head["status"], head["status_reason"], head["halt"], head["error"]) == ("active", None, None, None)
    assert (head["version"], head["open_steps"], head["current_step"], head["current_phase"]) == (
        before + 1, 2, 1, "a",
    )  # fmt: skip
    a = rows["a"]
    assert (a["status"], a["output"], a["reason"], a["error"], a["attempt"], a["finished_at"]) == (
        "succeeded", '"told"', None, None, 1, NOON,
    )  # fmt: skip
    assert (rows["d"]["status"], rows["d"]["worker"], rows["d"]["sends"]) == ("queued", "w2", 1)
    assert (rows["e"]["status"], rows["j"]["status"], rows["j"]["needs_left"]) == ("skipped", "pending", 1)
    (action,) = kit.store.actions(session)
    assert (action["action"], action["actor"], action["version"]) == ("resume", "ann", before + 1)
    kit.check(session)


def test_the_last_arrival_at_a_join_may_be_an_answer(kit: Kit) -> None:
    """Rule 5: it is queued with it, and once."""
    session = kit.start([*queued("a", "b"), *joins(j=2)])
    kit.run(session, "b", arrivals={"j": 1})
    parked(kit, "a", session=session)
    found = answer(kit, done(session, queued=(), skipped=(), closed=1))
    assert [step.key.step for step in found.queued] == ["j"]
    assert (kit.row(session, "j")["status"], kit.row(session, "j")["needs_left"]) == ("queued", 0)
    kit.check(session)


def test_the_late_worker_is_refused_whatever_was_answered(kit: Kit) -> None:
    """Rule 2: its token is not the row's any more, so its own result is not taken for what was told."""
    for make in (done, again):
        session = parked(kit, "a")
        answer(kit, make(session))
        key = StepKey(session, "a")
        late = Checkpoint(key=key, token="token of a", status="succeeded", output='"late"', phase="a", closed=1)
        with pytest.raises(ClaimLost):
            kit.store.checkpoint(late)
        with pytest.raises(ClaimLost):
            kit.store.setback(Setback(key=key, token="token of a", kind="failure", delay=None, failures=1))
        kit.check(session)


def test_again_queues_the_step_with_no_crashes(kit: Kit) -> None:
    session = parked(kit, "a", reason=POISONED)
    found = answer(kit, again(session))
    assert [(step.key.step, step.attempt) for step in found.queued] == [("a", 2)]
    row = kit.row(session)
    assert (row["status"], row["reason"], row["error"], row["crashes"]) == ("queued", None, None, 0)
    kit.claim(session)
    kit.check(session)


def test_while_others_wait_the_session_stays_suspended_for_the_strongest_that_is_left(kit: Kit) -> None:
    session = kit.start([*queued("a", "b", "p"), *joins(j=2)], total=6)
    for step in ("a", "b", "p"):
        kit.claim(session, step)
    for step, reason in (("a", IN_DOUBT), ("b", IN_DOUBT), ("p", POISONED)):
        kit.store.park(kit.orphan(session, step), reason=reason, error=f'{{"step":"{step}"}}')
    kit.store.settle(session)

    first = answer(kit, done(session))
    assert (first.queued, first.left) == ((), ("b", "p"))
    assert (kit.head(session)["status"], kit.head(session)["status_reason"]) == ("suspended", "in_doubt")
    assert kit.store.session(session)["error"] == '{"step":"b"}'
    assert {kit.row(session, step)["status"] for step in ("b", "d", "p")} == {"pending"}
    kit.check(session)
    assert answer(kit, again(session, "b")).left == ("p",)
    assert kit.head(session)["status_reason"] == "poisoned"
    assert kit.row(session, "b")["reason"] is None
    kit.check(session)
    last = answer(kit, again(session, "p"))
    assert [step.key.step for step in last.queued] == ["b", "d", "p"]
    assert kit.head(session)["status"] == "active"
    kit.check(session)


def test_a_plain_revive_is_refused_while_a_step_is_in_doubt_and_not_while_one_is_poisoned(kit: Kit) -> None:
    """R85: nothing is changed."""
    session = parked(kit, "a")
    before = kit.head(session), kit.rows(session)
    with pytest.raises(NotResumable, match="in doubt"):
        kit.store.revive(session, Action(action="resume"))
    assert (kit.head(session), kit.rows(session)) == before
    assert kit.store.actions(session) == []
    _, found = kit.store.revive(parked(kit, "a", reason=POISONED))
    assert [step.key.step for step in found] == ["a"]


@pytest.mark.parametrize("attempt", [1, 3])
def test_an_answer_to_another_attempt_is_refused(kit: Kit, attempt: int) -> None:
    session = parked(kit, "a")
    with pytest.raises(SessionConflict, match="step 'a' does not wait for an answer"):
        answer(kit, again(session, attempt=attempt))
    assert kit.row(session)["reason"] == "in_doubt"


def test_what_does_not_wait_is_refused_and_nothing_is_written(kit: Kit) -> None:
    running = kit.start()
    kit.claim(running)
    cancelled, halting = parked(kit, "a"), kit.start(queued("a", "b"))
    kit.store.halt(cancelled, Halt.CANCELLED, None), kit.store.settle(cancelled)
    kit.claim(halting, "a"), kit.claim(halting, "b")
    kit.store.park(kit.orphan(halting), reason=IN_DOUBT)
    kit.store.halt(halting, Halt.CANCELLED, None)
    for session, error in ((running, SessionConflict), (cancelled, NotResumable), (halting, NotResumable)):
        before = kit.head(session), kit.store.actions(session)
        with pytest.raises(error):
            answer(kit, done(session))
        assert (kit.head(session), kit.store.actions(session)) == before
    with pytest.raises(SessionNotFound):
        answer(kit, done("nobody"))


def test_a_failed_session_goes_on_with_the_answer_and_its_failed_step_anew(kit: Kit) -> None:
    session = kit.start([*queued("a", "x"), *joins(j=2)], total=5)
    kit.claim(session, "a")
    x = kit.claim(session, "x")
    kit.store.park(kit.orphan(session), reason=IN_DOUBT, error="{}")
    kit.fail(x)
    assert kit.store.settle(session) == "failed"
    found = answer(kit, done(session))
    assert [step.key.step for step in found.queued] == ["d", "x"]
    assert (kit.head(session)["status"], kit.head(session)["finished_at"]) == ("active", None)
    kit.check(session)


def test_what_still_runs_beside_it_is_left_alone(kit: Kit) -> None:
    """The answer may come before the session has come to rest: its halt is called off."""
    session = kit.start([*queued("a", "x"), *joins(j=2)], total=5)
    kit.claim(session, "a")
    x = kit.claim(session, "x")
    kit.store.park(kit.orphan(session), reason=IN_DOUBT)
    assert kit.store.settle(session) is None
    answer(kit, done(session))
    assert (kit.head(session)["status"], kit.head(session)["halt"]) == ("active", None)
    assert kit.end(x, arrivals={"j": 1}).ready == ("j",)
    kit.check(session)


def test_of_two_answers_at_once_one_wins_and_the_other_hears_who_it_was(kit: Kit) -> None:
    """Rule 4: the head's lock orders them."""
    for _ in range(10):
        session = parked(kit, "a")
        found = at_once(
            lambda s=session: answer(kit, done(s), "ann"),  # type: ignore[misc]
            lambda s=session: answer(kit, again(s), "bob"),  # type: ignore[misc]
        )
        (lost,) = [one for one in found if isinstance(one, Exception)]
        (action,) = kit.store.actions(session)
        assert isinstance(lost, SessionConflict)
        assert f"step 'a' was answered already by {action['actor']}" in lost.message
        assert kit.row(session)["status"] == ("succeeded" if action["actor"] == "ann" else "queued")
        kit.check(session)


def test_two_last_answers_at_once_set_the_session_going_once(kit: Kit) -> None:
    for _ in range(10):
        session = parked_together(kit, "a", "b")
        found = at_once(
            lambda s=session: answer(kit, done(s, queued=(), skipped=(), closed=1)),  # type: ignore[misc]
            lambda s=session: answer(kit, done(s, "b", queued=(), skipped=(), closed=1)),  # type: ignore[misc]
        )
        assert sorted([step.key.step for step in one.queued] for one in found) == [[], ["j"]]
        assert kit.head(session)["status"] == "active"
        kit.check(session)


def parked_together(kit: Kit, *steps: str) -> str:
    session = kit.start([*queued(*steps), *joins(j=len(steps))])
    for step in steps:
        kit.claim(session, step)
    for step in steps:
        kit.store.park(kit.orphan(session, step), reason=IN_DOUBT, error="{}")
    kit.store.settle(session)
    return session


@pytest.mark.parametrize("make", [done, again])
def test_an_answer_whose_commit_was_not_heard_of_is_recognised(kit: Kit, make: Any) -> None:
    """Rule 2: by its nonce, which is the id of its action."""
    session = parked(kit, "a")
    given = make(session)
    with lost_answers(1) as lost:
        found = answer(kit, given)
    assert len(lost) == 1
    assert [step.key.step for step in found.queued] == ["d" if make is done else "a"]
    assert [row["id"] for row in kit.store.actions(session)] == [given.nonce]
    assert kit.head(session)["status"] == "active"
    kit.check(session)


@pytest.mark.parametrize("make", [done, again])
def test_a_deadlock_at_any_statement_leaves_no_half_of_an_answer(kit: Kit, make: Any) -> None:
    """Rule 4: the whole transaction is tried again."""
    session = parked(kit, "a")
    with watched() as traffic:
        answer(kit, make(session))
    for position in range(len(traffic.statements)):
        session = parked(kit, "a")
        with deadlock_at(position) as refused:
            found = answer(kit, make(session))
        assert refused
        assert [step.key.step for step in found.queued] == ["d" if make is done else "a"]
        assert len(kit.store.actions(session)) == 1
        kit.check(session)
