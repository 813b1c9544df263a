"""The closed sets of words: which there are, which are ends, who may follow whom."""

import itertools

import pytest

from celery_cascade.persistence import models
from celery_cascade.states import (
    FINAL_SESSION,
    FINAL_STEP,
    STATUS_ALIASES,
    Halt,
    SessionStatus,
    StepStatus,
    SuspendReason,
    can_move,
)

S = SessionStatus


def test_a_session_has_one_of_six_statuses() -> None:
    """R39, D2: the set is closed."""
    assert [str(status) for status in SessionStatus] == [
        "active",
        "suspended",
        "completed",
        "failed",
        "cancelled",
        "expired",
    ]


def test_a_step_has_one_of_eight_statuses() -> None:
    """D3: the set is closed."""
    assert [str(status) for status in StepStatus] == [
        "pending",
        "queued",
        "running",
        "waiting",
        "succeeded",
        "failed",
        "skipped",
        "cancelled",
    ]


@pytest.mark.parametrize("words", [SessionStatus, StepStatus, SuspendReason, Halt])
@pytest.mark.parametrize("word", ["paused", "Active", "ACTIVE", "", " active", "done"])
def test_a_word_outside_of_the_set_is_refused(words: type[SessionStatus], word: str) -> None:
    """R39: an illegal value is an error, never stored."""
    with pytest.raises(ValueError, match="is not a valid"):
        words(word)


def test_a_suspended_session_says_why_and_the_strongest_reason_comes_first() -> None:
    """D2: the eight reasons, in the order in which one of several is shown."""
    assert [str(reason) for reason in SuspendReason] == [
        "operator",
        "in_doubt",
        "poisoned",
        "worker_lost",
        "approval",
        "signal",
        "children",
        "timer",
    ]


def test_the_final_statuses_of_a_session_are_the_four_ends() -> None:
    """R39, D2."""
    assert {S.COMPLETED, S.FAILED, S.CANCELLED, S.EXPIRED} == FINAL_SESSION
    assert {status for status in SessionStatus if status.final} == FINAL_SESSION


def test_the_final_statuses_of_a_step_are_the_four_ends() -> None:
    """D3: a skipped step is an end too."""
    assert {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED} == FINAL_STEP
    assert {status for status in StepStatus if status.final} == FINAL_STEP


def test_the_tables_hold_the_same_words() -> None:
    """R39, D2, D3: the CHECK constraints are written out, so that a migration does not move with the code."""
    assert set(models.SESSION_STATUSES) == set(SessionStatus)
    assert set(models.FINAL_SESSIONS) == FINAL_SESSION
    assert set(models.STEP_STATUSES) == set(StepStatus)
    assert set(models.FINAL_STEPS) == FINAL_STEP


LEGAL = {
    (S.ACTIVE, S.SUSPENDED),
    (S.ACTIVE, S.COMPLETED),
    (S.ACTIVE, S.FAILED),
    (S.ACTIVE, S.CANCELLED),
    (S.ACTIVE, S.EXPIRED),
    (S.SUSPENDED, S.ACTIVE),
    (S.SUSPENDED, S.CANCELLED),
    (S.SUSPENDED, S.EXPIRED),
    (S.FAILED, S.ACTIVE),
    (S.FAILED, S.CANCELLED),
    (S.FAILED, S.EXPIRED),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(SessionStatus, repeat=2)))
def test_a_session_moves_only_as_the_table_says(old: SessionStatus, new: SessionStatus) -> None:
    """R39: every pair of statuses is either in the table or refused."""
    assert can_move(old, new) is ((old, new) in LEGAL)


@pytest.mark.parametrize("status", SessionStatus)
def test_no_session_moves_to_where_it_is(status: SessionStatus) -> None:
    """R39."""
    assert not can_move(status, status)


@pytest.mark.parametrize("ended", [S.COMPLETED, S.CANCELLED, S.EXPIRED])
def test_what_has_ended_stays_ended(ended: SessionStatus) -> None:
    """R39: of the ends only `failed` can go on, by `resume`."""
    assert not any(can_move(ended, status) for status in SessionStatus)
    assert can_move(S.FAILED, S.ACTIVE)


def test_only_an_active_session_completes_or_fails() -> None:
    """R39, D2: failure is never reached from `suspended`."""
    for end in (S.COMPLETED, S.FAILED):
        assert [old for old in SessionStatus if can_move(old, end)] == [S.ACTIVE]


def test_a_halt_is_on_its_way_to_a_status_that_an_active_session_may_take() -> None:
    """R39: the words of `Halt` are statuses."""
    for halt in Halt:
        assert can_move(S.ACTIVE, SessionStatus(halt.value))


def test_a_stronger_halt_ranks_higher() -> None:
    """D2: a cancel replaces a suspend that is under way, not the other way round."""
    assert sorted(Halt, key=lambda halt: halt.rank) == [Halt.SUSPENDED, Halt.FAILED, Halt.CANCELLED, Halt.EXPIRED]


def test_the_words_of_other_systems_have_one_meaning_each() -> None:
    """D2: accepted as filters."""
    assert STATUS_ALIASES == {
        "initialized": S.ACTIVE,
        "pending": S.ACTIVE,
        "generating": S.ACTIVE,
        "running": S.ACTIVE,
        "waiting": S.SUSPENDED,
        "blocked": S.SUSPENDED,
        "error": S.FAILED,
        "orphaned": S.FAILED,
    }


def test_no_alias_hides_a_status() -> None:
    """D2: a word of our own always means itself."""
    assert not set(STATUS_ALIASES) & {status.value for status in SessionStatus}
