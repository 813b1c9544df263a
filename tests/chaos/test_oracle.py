"""The chaos is worth what its oracle sees: each thing that must not be is seen when it is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from support.chaos.bodies import Body
from support.chaos.counts import Counts
from support.chaos.oracle import Judge, Pause, needs_of
from support.chaos.shapes import SHAPES, Job
from support.chaos.store import Left

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job("c1", next(shape for shape in SHAPES if shape.name == "shaky"), {"n": 7, "ms": [1] * 6})


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


class Story:
    """A session of three steps that went well: `first`, `second` in two attempts, `last`; a test spoils it."""

    def __init__(self) -> None:
        self.session = SimpleNamespace(session_id="c1")
        self.head = SimpleNamespace(
            session_id="c1", status="completed", finished_at=at(40), output="7", error=None, version=6, halt=None,
            open_steps=0,
        )  # fmt: skip
        self.steps = {
            name: self.step(name, number, attempt) for number, (name, attempt) in enumerate(
                [("first", 1), ("second", 2), ("last", 1)], start=1)
        }  # fmt: skip
        self.attempts = [self.attempt("second", 1, version=3)]
        self.actions: list[Any] = []
        self.bodies = [
            self.body("first", 1, 5), self.body("second", 1, 12), self.body("second", 2, 16), self.body("last", 1, 25),
        ]  # fmt: skip
        self.pauses: list[Pause] = []

    def step(self, name: str, number: int, attempt: int) -> Any:
        version = {"first": 2, "second": 4, "last": 5}[name]
        return SimpleNamespace(
            session_id="c1", step=name, status="succeeded", attempt=attempt, sends=1, wake_at=None,
            finished_at=at(number * 10), version=version,
        )  # fmt: skip

    def attempt(self, step: str, number: int, *, version: int, started: float = 11) -> Any:
        return SimpleNamespace(
            session_id="c1", step=step, attempt=number, kind="crash", version=version, started_at=at(started)
        )

    def body(self, step: str, attempt: int, seconds: float, pid: int = 100) -> Body:
        return Body("c1", step, attempt, pid, at(seconds).timestamp())

    def judged(self) -> tuple[Counts, list[str]]:
        left = Left(
            sessions=[] if self.session is None else [self.session],
            heads=[] if self.head is None else [self.head],
            steps=list(self.steps.values()),
            attempts=self.attempts,
            actions=self.actions,
        )
        counts = Counts("embedded", 1)
        return counts, Judge(left, {"c1": JOB}, self.bodies, self.pauses).fill(counts)


def test_a_story_that_went_well_has_no_violation() -> None:
    counts, violations = Story().judged()
    assert violations == []
    assert (counts.sessions, counts.steps, counts.bodies, counts.crashes_recorded) == (1, 3, 4, 1)
    assert (counts.lost, counts.stuck, counts.wrong, counts.repeated_after_checkpoint) == (0, 0, 0, 0)


def lost(story: Story) -> None:
    story.session = story.head = None
    story.steps, story.attempts, story.bodies = {}, [], []


def stuck(story: Story) -> None:
    story.head.finished_at, story.head.status = None, "active"


def another_output(story: Story) -> None:
    story.head.output = "8"


def another_end(story: Story) -> None:
    story.head.status, story.head.output = "failed", None


def run_again(story: Story) -> None:
    story.bodies.append(story.body("first", 2, 15))


def began_late_without_a_pause(story: Story) -> None:
    story.bodies[1] = story.body("second", 1, 21)


def paused_before_its_claim_only(story: Story) -> None:
    story.bodies[1] = story.body("second", 1, 21)
    story.pauses.append((frozenset([100]), at(1).timestamp(), at(2).timestamp()))


def one_claim_two_bodies(story: Story) -> None:
    story.bodies.append(story.body("second", 2, 17, pid=200))


def a_body_beyond_the_row(story: Story) -> None:
    story.bodies.append(story.body("last", 2, 26))


def a_body_without_a_row(story: Story) -> None:
    del story.steps["first"]


def a_success_without_a_body(story: Story) -> None:
    del story.bodies[-1]


def an_attempt_without_record(story: Story) -> None:
    story.attempts.clear()


def begun_before_its_need(story: Story) -> None:
    story.bodies[-1] = story.body("last", 1, 19)


def a_session_that_nobody_started(story: Story) -> None:
    story.session = SimpleNamespace(session_id="c2")


def an_attempt_of_no_step(story: Story) -> None:
    story.attempts.append(story.attempt("gone", 1, version=4))


def a_session_without_a_head(story: Story) -> None:
    story.head = None


def a_step_left_running(story: Story) -> None:
    story.steps["last"].status, story.steps["last"].finished_at = "running", None


def a_gap_in_the_history(story: Story) -> None:
    story.head.version = 8


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lost, "lost"),
        (stuck, "stuck"),
        (another_output, "wrong"),
        (another_end, "wrong"),
        (run_again, "repeated_after_checkpoint"),
        (began_late_without_a_pause, "repeated_after_checkpoint"),
        (paused_before_its_claim_only, "repeated_after_checkpoint"),
        (one_claim_two_bodies, "other_violations"),
        (a_body_beyond_the_row, "other_violations"),
        (a_body_without_a_row, "other_violations"),
        (a_success_without_a_body, "other_violations"),
        (an_attempt_without_record, "other_violations"),
        (begun_before_its_need, "other_violations"),
        (a_session_that_nobody_started, "other_violations"),
        (an_attempt_of_no_step, "other_violations"),
        (a_session_without_a_head, "other_violations"),
        (a_step_left_running, "other_violations"),
        (a_gap_in_the_history, "other_violations"),
    ],
)
def test_each_violation_is_seen(spoil: Callable[[Story], None], where: str) -> None:
    story = Story()
    spoil(story)
    counts, violations = story.judged()
    assert getattr(counts, where) > 0, violations


def test_a_zombie_that_was_stopped_between_claim_and_body_is_counted_apart() -> None:
    """It was taken for dead, its token is worth nothing; nobody can keep its process from going on."""
    story = Story()
    began_late_without_a_pause(story)
    story.pauses.append((frozenset([100]), at(12).timestamp(), at(20.9).timestamp()))
    counts, violations = story.judged()
    assert violations == []
    assert counts.late_zombies == 1


def test_the_shapes_say_what_needs_what() -> None:
    fan = next(shape for shape in SHAPES if shape.name == "fan")
    assert set(needs_of(fan)["join"]) == {"b0", "b1", "b2"}
    assert needs_of(fan)["b1"] == ("first",)
