from __future__ import annotations

import pytest

from celery_cascade.tasks.ticking import Timetable, Witness


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(clock: Clock) -> Witness:
    return Witness(interval=5, timeout=15, clock=clock)


def beats(witness: Witness, clock: Clock, *gaps: float) -> None:
    for gap in gaps:
        clock.now += gap
        witness.beat_succeeded()


def test_nobody_judges_before_a_whole_timeout_of_beats(witness, clock):
    assert not witness.may_judge
    beats(witness, clock, 0, 5, 5)
    assert not witness.may_judge
    beats(witness, clock, 5)
    assert witness.may_judge


def test_a_failed_beat_starts_the_wait_anew(witness, clock):
    beats(witness, clock, 0, 5, 5, 5)
    witness.beat_failed()
    assert not witness.may_judge
    beats(witness, clock, 1, 5, 5)
    assert not witness.may_judge
    beats(witness, clock, 5)
    assert witness.may_judge


def test_a_late_beat_starts_the_wait_anew_though_none_failed(witness, clock):
    """The database answered nobody for a while, and then all at once."""
    beats(witness, clock, 0, 5, 5, 5, 8, 5, 5)
    assert not witness.may_judge
    beats(witness, clock, 5)
    assert witness.may_judge


def test_a_beat_that_is_a_little_late_does_no_harm(witness, clock):
    beats(witness, clock, 0, 5, 7, 5)
    assert witness.may_judge


def test_a_thread_that_hangs_is_no_witness(witness, clock):
    beats(witness, clock, 0, 5, 5, 5)
    clock.now += 8
    assert not witness.may_judge


def test_no_outage_makes_a_witness_see_the_living_as_dead(clock):
    """Whatever the outage's length and phase: who still judges after it, sees no beat older than the timeout."""
    interval, timeout = 5.0, 15.0
    for outage in [step / 2 for step in range(1, 50)]:
        for phase in [step / 2 for step in range(10)]:
            clock.now = 0.0
            witness = Witness(interval=interval, timeout=timeout, clock=clock)
            begin, end = 50.0, 50.0 + outage
            other_last = other_worst = 0.0
            for tenth in range(1600):
                now = clock.now = tenth / 10
                away = begin <= now < end
                if tenth % 50 == 0 and not away:
                    witness.beat_succeeded()
                elif tenth % 50 == 0:
                    witness.beat_failed()
                if (tenth - int(phase * 10)) % 50 == 0 and not away:
                    other_last = now
                if witness.may_judge and not away:
                    other_worst = max(other_worst, now - other_last)
            assert other_worst <= timeout, (outage, phase)


def test_things_are_due_one_interval_after_another(clock):
    table = Timetable({"often": 1, "seldom": 5}, clock=clock)
    assert table.due() == []
    assert table.wait() == 1
    clock.now += 1
    assert table.wait() == 0
    assert table.due() == ["often"]
    assert table.due() == []
    clock.now += 4
    assert table.due() == ["often", "seldom"]
    assert table.wait() == 1


def test_what_comes_late_is_done_once(clock):
    table = Timetable({"often": 1}, clock=clock)
    clock.now += 60
    assert table.due() == ["often"]
    assert table.due() == []
    assert table.wait() == 1
