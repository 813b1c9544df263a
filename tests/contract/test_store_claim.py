"""claim: a worker's right to run one attempt, taken by one conditional statement."""

from __future__ import annotations

from datetime import timedelta

from celery_cascade.persistence.rows import ClaimedStep, StepKey
from contract.kit import NOON, Kit, joins, queued


def take(kit: Kit, session: str, token: str, attempt: int = 1, step: str = "a") -> ClaimedStep | None:
    return kit.store.claim(StepKey(session, step), attempt=attempt, token=token, worker="w1", runner="7.1")


def test_a_claim_returns_what_runs_and_writes_who_runs_it(kit: Kit) -> None:
    session = kit.start(queued("a", call='{"args":[7],"kwargs":{}}'))
    kit.clock.forward(5)

    claimed = take(kit, session, "t1")

    assert claimed is not None
    assert (claimed.call, claimed.attempt, claimed.task) == ('{"args":[7],"kwargs":{}}', 1, "shop.task")
    assert (claimed.failures, claimed.retries, claimed.crashes) == (0, 0, 0)
    row = kit.row(session)
    assert (row["status"], row["worker"], row["runner"], row["token"]) == ("running", "w1", "7.1", "t1")
    assert (row["started_at"], row["wake_at"], row["deadline"]) == (NOON + timedelta(seconds=5), None, None)


def test_a_step_is_claimed_once(kit: Kit) -> None:
    """Rule 2: a duplicate message finds it running, and takes nothing over."""
    session = kit.start()

    assert take(kit, session, "t1") is not None
    assert take(kit, session, "t2") is None
    assert kit.row(session)["token"] == "t1"


def test_a_message_of_another_attempt_claims_nothing(kit: Kit) -> None:
    session = kit.start()

    assert take(kit, session, "t1", attempt=2) is None
    assert take(kit, session, "t1", attempt=0) is None
    assert kit.statuses(session) == {"a": "queued"}


def test_a_claim_whose_answer_was_lost_is_recognised_by_its_token(kit: Kit) -> None:
    """Rule 2: or the row already bears my token."""
    session = kit.start()

    first = take(kit, session, "t1")
    assert take(kit, session, "t1") == first


def test_a_step_that_has_ended_is_not_claimed_again_even_with_its_token(kit: Kit) -> None:
    """D11: a checkpointed step is never run again."""
    session = kit.start()
    claimed = kit.claim(session, token="t1")
    kit.end(claimed)

    assert take(kit, session, "t1") is None
    assert take(kit, session, "t2") is None
    assert kit.store.one_running(claimed.key, 1) is None


def test_a_released_step_is_not_claimed_by_the_old_attempt(kit: Kit) -> None:
    session = kit.start()
    kit.claim(session, token="t1")
    kit.store.release(kit.orphan(session), error=None)

    assert take(kit, session, "t1") is None
    assert take(kit, session, "t2", attempt=2) is not None


def test_a_join_that_waits_and_a_step_that_is_not_there_are_not_claimed(kit: Kit) -> None:
    session = kit.start([*queued("a"), *joins(both=2)])

    assert take(kit, session, "t1", step="both") is None
    assert take(kit, session, "t1", step="nothing") is None
    assert take(kit, "nobody", "t1") is None


def test_a_claim_with_a_timeout_sets_the_deadline(kit: Kit) -> None:
    session = kit.start()
    kit.claim(session, timeout=30.5)

    assert kit.row(session)["deadline"] == NOON + timedelta(seconds=30.5)
    assert kit.store.overdue() == []
    kit.clock.forward(31)
    assert [orphan.key for orphan in kit.store.overdue()] == [StepKey(session, "a")]


def test_a_claim_changes_neither_head_nor_version(kit: Kit) -> None:
    """Rule 4."""
    session = kit.start()
    before = kit.head(session)
    kit.claim(session)

    assert kit.head(session) == before
    assert kit.row(session)["version"] == 1
